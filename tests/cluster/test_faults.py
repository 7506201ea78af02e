"""Whatever dies, the run ends with bitwise the losses of an undisturbed one, every planned row used exactly once (which
the job itself checks), and one line says what died."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from ray.cluster_utils import Cluster
from safetensors.torch import load_file, save_file

from tests.cluster.tiny_jobs import (
    CHECKOUT,
    STEPS,
    await_step,
    finish,
    losses,
    ray_process,
    start,
    tiny_config,
    tiny_root,
)
from wmtp_ray.models.value_model import KIND
from wmtp_ray.storage import read_manifest, write_manifest
from wmtp_ray.training.checkpoint import complete_checkpoints
from wmtp_ray.training.metrics_file import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class Scene:
    """A cluster of several logical nodes, and a storage root with a critic and an undisturbed run `quiet`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE"):
            os.environ.pop(name, None)
        # Nothing but the driver's own actors runs on the head, so that any other node may go.
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.jobs = f"http://127.0.0.1:{port}"
        head = {
            "num_cpus": 0,
            "include_dashboard": True,
            "dashboard_port": port,
            "dashboard_agent_listen_port": 0,
        }
        self.cluster = Cluster(True, head_node_args=head)
        self.node = self.cluster.add_node(num_cpus=4)
        self.cluster.wait_for_nodes()

    def start(self, job: str, config: Path) -> subprocess.Popen[str]:
        return start(job, config, self.cluster.address)

    def config(self, name: str, **sections: Any) -> Path:
        """Without the cache of the other runs, so that critics have to score while they are disturbed."""
        critic = {"run": "tiny", "window": 3, "cache": f"scores-{name}"}
        return tiny_config(self.root, "verifiable", name, **({"critic": critic} | sections))

    def run(self, name: str) -> Path:
        return self.root / "runs" / f"verifiable-{name}"

    def started(self, name: str, step: int, **sections: Any) -> subprocess.Popen[str]:
        """The run `name`, once it has done `step` steps."""
        process = self.start("verifiable", self.config(name, **sections))
        await_step(self.root, f"verifiable-{name}", step, process)
        return process

    def ray_job(self, *arguments: str) -> str:
        """What `ray job ...` prints."""
        command = [str(Path(sys.executable).with_name("ray")), "job", *arguments]
        environment = os.environ | {"RAY_API_SERVER_ADDRESS": self.jobs}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def again(self, name: str) -> str:
        """What the same command prints."""
        return finish(self.start("verifiable", self.root / f"verifiable-{name}.yaml"))

    def assert_undisturbed(self, name: str, tolerance: float = 0.0) -> None:
        """Bitwise, where another number of workers does not need a `tolerance`."""
        disturbed = losses(self.root, f"verifiable-{name}")
        assert [step for step, _, _ in disturbed] == list(range(1, STEPS + 1))
        quiet = losses(self.root, "verifiable-quiet")
        for found, expected in zip(disturbed, quiet, strict=True):
            assert found == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(tiny_root(tmp_path_factory.mktemp("root")))
    try:
        finish(scene.start("critic", tiny_config(scene.root, "critic", "tiny")))
        finish(scene.start("verifiable", scene.config("quiet")))
        yield scene
    finally:
        scene.cluster.shutdown()


def failed(process: subprocess.Popen[str], timeout: float = 300) -> str:
    """Wait for a job's bad end and return what it printed."""
    output, _ = process.communicate(timeout=timeout)
    assert process.returncode == 1, output
    assert output.count("error: ") == 1 and "Traceback" not in output, output
    return output


def test_a_killed_read_task_critic_and_train_worker(scene: Scene) -> None:
    process = scene.start("verifiable", scene.config("killed"))
    ray_process("ReadShare").kill()
    await_step(scene.root, "verifiable-killed", 3, process)
    ray_process("CriticActor").kill()
    await_step(scene.root, "verifiable-killed", 6, process)
    ray_process("RayTrainWorker").kill()
    output = finish(process)
    assert output.count("a critic actor died and was started again; its unfinished calls are repeated") == 1
    assert "train worker 0 is gone" in output and "resumed after step" in output
    scene.assert_undisturbed("killed")


def test_a_killed_worker_of_a_sharded_model(scene: Scene) -> None:
    """The other one is most often inside a layer, which all workers gather."""
    cluster = {"num_workers": 2, "parallelism": "fsdp2", "steps_per_read": 2}
    process = scene.started("sharded", 3, cluster=cluster)
    ray_process("RayTrainWorker").kill()
    output = finish(process)
    assert "is gone" in output and "resumed after step" in output
    scene.assert_undisturbed("sharded", tolerance=1e-5)


def test_deaths_are_bounded(scene: Scene) -> None:
    config = {"cluster": {"max_failures": 0, "steps_per_read": 2}}
    process = scene.started("bounded", 3, **config)
    ray_process("RayTrainWorker").kill()
    assert "died more than cluster.max_failures = 0 times" in failed(process)
    assert "resumed after step" in scene.again("bounded")
    scene.assert_undisturbed("bounded")


def test_a_removed_node(scene: Scene) -> None:
    """All that works is on it: worker, critic, score cache, read tasks. Another one comes after a while."""
    process = scene.started("node", 5)
    scene.cluster.remove_node(scene.node, allow_graceful=False)
    time.sleep(2)
    scene.node = scene.cluster.add_node(num_cpus=4)
    assert "train worker 0 is gone" in finish(process)
    scene.assert_undisturbed("node")


def test_a_driver_that_ray_is_told_to_stop_then_killed_and_a_truncated_checkpoint(scene: Scene) -> None:
    """The critic is suspended while the command starts, so that training waits for it."""
    environment = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "300", "WMTP_TEST_RUN": "1"}}
    command = [sys.executable, "jobs/verifiable.py", "--config", str(scene.config("driver"))]
    options = ["--no-wait", "--submission-id", "driver", "--runtime-env-json", json.dumps(environment)]
    scene.ray_job("submit", "--working-dir", str(CHECKOUT), *options, "--", *command)
    await_step(scene.root, "verifiable-driver", 3)
    critic = ray_process("CriticActor")
    critic.suspend()
    scene.ray_job("stop", "--no-wait", "driver")
    time.sleep(3)
    critic.resume()
    output = scene.ray_job("logs", "--follow", "driver")
    assert "Traceback" not in output, output
    done = losses(scene.root, "verifiable-driver")[-1][0]
    assert 3 <= done < STEPS
    assert f"was asked to stop and did after step {done} of {STEPS}, which is saved" in output
    assert complete_checkpoints(scene.run("driver") / "checkpoints")[-1].name == f"step-{done:08d}"
    records = read_metrics(scene.run("driver") / "metrics.jsonl")
    assert sum(r.get("score_wait_seconds", 0) for r in records) > 2

    process = scene.start("verifiable", scene.root / "verifiable-driver.yaml")
    await_step(scene.root, "verifiable-driver", done + 1, process)
    worker = ray_process("RayTrainWorker")
    process.kill()
    process.wait()
    worker.wait(60)  # until then it may save another checkpoint
    newest = complete_checkpoints(scene.run("driver") / "checkpoints")[-1]
    os.truncate(newest / "model.safetensors", 1000)
    output = scene.again("driver")
    assert f"passed over a damaged checkpoint: checkpoint {newest}: model.safetensors changed" in output
    assert "resumed after step" in output
    scene.assert_undisturbed("driver")


def test_workers_grow_and_shrink_with_the_cluster(scene: Scene) -> None:
    """A second worker fits only once another node is there, and no longer when it is gone. The critic, which holds a
    place beside the first worker, is stopped meanwhile, so that training waits."""
    cluster = {"num_workers": [1, 2], "cpus_per_worker": 2, "grow_every_seconds": 1, "steps_per_read": 2}
    process = scene.started("elastic", 1, cluster=cluster, checkpoint={"every_steps": 1})
    run = scene.run("elastic")
    critic = ray_process("CriticActor")
    critic.suspend()
    node = scene.cluster.add_node(num_cpus=3)
    await_true(lambda: (run / "grow").exists(), process)
    critic.resume()
    await_true(lambda: 2 in workers_of(run)[: steps_saved(run)], process)
    critic.suspend()
    scene.cluster.remove_node(node, allow_graceful=False)
    await_true(lambda: "is gone" in notices(run), process)
    critic.resume()
    output = finish(process)
    for count in (1, 2, 1):
        notice = f"training with {count} of at most 2 workers"
        assert notice in output, output
        output = output.split(notice, 1)[1]
    assert {1, 2} == set(workers_of(run)) and workers_of(run)[-1] == 1
    scene.assert_undisturbed("elastic", tolerance=1e-5)


def workers_of(run: Path) -> list[int]:
    """How many workers did each step."""
    return [r["workers"] for r in read_metrics(run / "metrics.jsonl") if "workers" in r]


def steps_saved(run: Path) -> int:
    """What a run goes on after, whatever its metrics say."""
    return max(
        (int(path.name.split("-")[1]) for path in complete_checkpoints(run / "checkpoints")), default=0
    )


def notices(run: Path) -> str:
    path = run / "notices.log"
    return path.read_text() if path.exists() else ""


def await_true(condition: Callable[[], bool], process: subprocess.Popen[str], timeout: float = 400) -> None:
    """Wait for `condition` while the job runs."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_disk_during_a_checkpoint(scene: Scene) -> None:
    """On a file system that holds two checkpoints: the third fails, and goes on when there is room."""
    checkpoints = scene.run("full") / "checkpoints"
    one = sum(f.stat().st_size for f in next((scene.run("quiet") / "checkpoints").iterdir()).iterdir())
    checkpoints.mkdir(parents=True)
    mounted = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        f"size={int(2.6 * one) // 4096 * 4096}",
        "tmpfs",
        str(checkpoints),
    ]
    if os.geteuid() != 0 or subprocess.run(mounted, capture_output=True).returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    try:
        output = failed(scene.start("verifiable", scene.config("full")))
        assert "cannot save checkpoint" in output and "free space and run the same command" in output
        whole = [path.name for path in complete_checkpoints(checkpoints)]
        assert whole == ["step-00000002", "step-00000004"]
        subprocess.run(["mount", "-o", "remount,size=100M", str(checkpoints)], check=True)
        assert f"resumed after step 4 of {STEPS}" in scene.again("full")
        scene.assert_undisturbed("full")
    finally:
        subprocess.run(["umount", str(checkpoints)], check=True)


def test_a_critic_that_gives_no_numbers(scene: Scene) -> None:
    export = scene.root / "runs" / "critic-tiny" / "export"
    broken = shutil.copytree(export, scene.root / "broken")
    head = load_file(broken / "head.safetensors")
    save_file({n: torch.full_like(t, float("nan")) for n, t in head.items()}, broken / "head.safetensors")
    write_manifest(broken, KIND, **(read_manifest(export, KIND).facts | {"fingerprint": "broken"}))
    output = failed(scene.start("verifiable", scene.config("nan", critic={"path": str(broken)})))
    assert "the critic's value of sample " in output and "is not finite" in output
    assert losses_or_none(scene, "nan") == []


def test_a_changed_configuration_is_refused(scene: Scene) -> None:
    changed = scene.config("quiet", optimizer={"learning_rate": 0.5})
    assert "optimizer.learning_rate was 0.001, is 0.5" in failed(scene.start("verifiable", changed))


def losses_or_none(scene: Scene, name: str) -> list[tuple[int, float, float]]:
    metrics = scene.run(name) / "metrics.jsonl"
    return losses(scene.root, f"verifiable-{name}") if metrics.exists() else []


def test_no_process_of_a_run_outlives_it(scene: Scene) -> None:
    """The last test: what was killed or stopped above left no worker or critic behind."""
    titles = [" ".join(p.cmdline()) for p in psutil.Process().children(recursive=True)]
    assert not [t for t in titles if "RayTrainWorker" in t or "CriticActor" in t]
