"""Preparing a store over Ray, on synthetic JSON lines of 150 programs a problem, cleaned, clustered and tokenised.

Beside it, in the same run, the least that any preparation does: one process that parses each line and tokenises its
text. Rates are per second of CPU time, Ray's own processes included, so that they mean the same on a busy machine.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import ray

from benchmarks.figure import Figure
from wmtp_ray.cluster.prepare import prepare_store
from wmtp_ray.config.prepare import PrepareJobConfig
from wmtp_ray.data.sources import build_source
from wmtp_ray.models import load_tokenizer, resolve_model

SMALL, LARGE = 6_000, 48_000
LINES = [f"    value_{i} = step_{i % 7}(values[{i}], {i * 3})\n" for i in range(200)]


def figures() -> Iterator[Figure]:
    """Rate beside the plain loop, and peak memory of many rows beside few."""
    tokenizer = resolve_model("smollm2-135m")
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="wmtp-bench-") as folder:
        root = Path(folder)
        small, large = (_write_lines(root / f"{n}.jsonl", n) for n in (SMALL, LARGE))
        plain = _plain_loop(small, tokenizer)
        ray.init(
            address="local",
            num_cpus=cores,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            _prepare(root, small, tokenizer, "warm-up")  # starts the workers, which then stay
            with _Watched() as few:
                _prepare(root, small, tokenizer, "few")
            with _Watched() as many:
                _prepare(root, large, tokenizer, "many")
        finally:
            ray.shutdown()
    rate = LARGE / many.cpu_seconds
    yield Figure(
        "prepare_rows_per_second",
        rate,
        "rows/s per core",
        f"parse and tokenise in one process: {plain:.0f} rows/s",
    )
    yield Figure("prepare_vs_plain_loop", rate / plain, "x", "each per second of CPU time", ">= 0.7")
    yield Figure(
        "prepare_peak_memory",
        many.megabytes / few.megabytes,
        "x",
        f"{LARGE:,} rows {many.megabytes:.0f} MB, {SMALL:,} rows {few.megabytes:.0f} MB, all processes",
        "<= 1.3",
    )


def _write_lines(path: Path, num_rows: int) -> Path:
    with path.open("w") as file:
        for n in range(num_rows):
            start = n * 7919 % 190
            row = {
                "instruction": f"Task {n // 150}. " + "Read numbers and print their sum. " * 10,
                "input": "",
                "output": f"def solve_{n}(values):\n" + "".join(LINES[start : start + 4 + n % 17]),
                "problem_id": f"p{n // 150}",
                "is_correct": n % 5 < 2,
            }
            file.write(json.dumps(row) + "\n")
    return path


def _plain_loop(path: Path, tokenizer_path: Path) -> float:
    tokenizer = load_tokenizer(tokenizer_path)
    started = time.process_time()
    rows = 0
    with path.open() as file:
        for line in file:
            tokenizer(json.loads(line)["output"], add_special_tokens=False)
            rows += 1
    return rows / (time.process_time() - started)


def _prepare(root: Path, lines: Path, tokenizer: Path, name: str) -> None:
    config = PrepareJobConfig.model_validate(
        {
            "name": name,
            "source": {"kind": "jsonl", "paths": [str(lines)]},
            "tokenizer": "smollm2-135m",
            "max_length": 2048,
        }
    )
    prepare_store(config, build_source(config.source), tokenizer, root / "stores" / name)


class _Watched:
    """What this process and its descendants take together while the block runs (Linux)."""

    megabytes = 0.0
    """The most private memory."""
    cpu_seconds = 0.0

    def __enter__(self) -> _Watched:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self.cpu_seconds = -sum(map(_cpu_seconds, _family()))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.cpu_seconds += sum(map(_cpu_seconds, _family()))

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.megabytes = max(self.megabytes, sum(map(_private_megabytes, _family())))


def _family() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0  # it has ended
    return times.user + times.system


def _private_megabytes(process: psutil.Process) -> float:
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0.0
    anonymous = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(anonymous[0].split()[1]) / 1024 if anonymous else 0.0
