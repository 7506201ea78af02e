"""The dashboard's panels ask for what a training, an evaluation and a service on one Ray really export."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
import yaml

from tests.cluster.tiny_jobs import finish, start, tiny_config, tiny_root
from tests.jobs.test_evaluate import content, evaluate
from tests.serve.ray_service import running_service
from wmtp_ray.cluster.connect import connected

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

DASHBOARD = json.loads((Path(__file__).parents[1] / "configs" / "grafana.json").read_text(encoding="utf-8"))
QUERIES = [
    pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']}-{target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
SAMPLE = re.compile(r"(ray_wmtp_\w+)\{(.*)\} ")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
SELECTOR = re.compile(r"(ray_wmtp_\w+)(?:\{([^}]*)\})?")


class Exported(threading.Thread):
    """The labels of every series of this project that Ray's exporters show while the block lasts, by name."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()
        self.series: dict[str, list[dict[str, str]]] = {}

    def __enter__(self) -> Exported:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(0.5):
            for node in ray.nodes():
                address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
                try:
                    text = httpx.get(address, timeout=10, trust_env=False).text
                except httpx.TransportError:
                    continue
                for name, labels in SAMPLE.findall(text):
                    found = self.series.setdefault(name, [])
                    if (read := dict(LABEL.findall(labels))) not in found:
                        found.append(read)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[dict[str, str]]]]:
    root = tiny_root(tmp_path_factory.mktemp("root"))
    evaluation: dict[str, Any] = {
        "models": [{"name": "base", "model": str(root / "model")}],
        "benchmarks": [{"kind": "humaneval", "limit": 2}],
    }
    (root / "evaluate.yaml").write_text(yaml.safe_dump(content(root, **evaluation)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "2000")  # the jobs are shorter than its default
        with connected({"CPU": 6}), Exported() as seen:
            patch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
            finish(start("critic", tiny_config(root, "critic", "tiny")))
            finish(start("verifiable", tiny_config(root, "verifiable", "tiny")))
            done = evaluate(root / "evaluate.yaml")
            assert done.returncode == 0, done.stdout + done.stderr
            with running_service(root, "critic.run=tiny") as service:
                item = {"instruction": "Add two numbers.", "response": "def add(a, b): return a + b"}
                assert httpx.post(f"{service.url}/v1/score", json={"items": [item]}).status_code == 200
                threading.Event().wait(3)  # for the last report
        yield seen.series


@pytest.mark.parametrize(("query", "legend"), QUERIES)
def test_a_panel_asks_for_what_is_exported(
    exported: dict[str, list[dict[str, str]]], query: str, legend: str
) -> None:
    used = set(re.findall(r"\{\{(\w+)\}\}", legend))
    for grouped in re.findall(r"by \(([^)]*)\)", query):
        used |= set(re.split(r",\s*", grouped))
    selectors = SELECTOR.findall(query)
    assert selectors
    for name, matchers in selectors:
        wanted = {
            label: value for label, value in LABEL.findall(matchers.replace("=~", "=")) if value != "$run"
        }
        chosen = [s for s in exported.get(name, ()) if wanted.items() <= s.items()]
        assert chosen, f"{name}{wanted} is not exported; there are {sorted(exported)}"
        if 'run=~"$run"' in matchers:
            used.add("run")
        for series in chosen:
            assert used <= series.keys(), f"{name} has {sorted(series)}"


def test_the_runs_to_choose_from_are_those_that_train(exported: dict[str, list[dict[str, str]]]) -> None:
    [run] = [v for v in DASHBOARD["templating"]["list"] if v["name"] == "run"]
    [(name, label)] = re.findall(r"^label_values\((\w+), (\w+)\)$", run["query"])
    assert {series[label] for series in exported[name]} == {"critic-tiny", "verifiable-tiny"}
