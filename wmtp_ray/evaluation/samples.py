"""`samples.jsonl`: one judged sample a line, appended as it comes; what a killed evaluation left is taken up
again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeAlias

from filelock import FileLock, Timeout

from wmtp_ray.errors import DataError, StorageError
from wmtp_ray.evaluation.verify import Status
from wmtp_ray.storage.manifest import write_bytes_atomically

SAMPLES_FILE = "samples.jsonl"
MODELS_FILE = "models.json"
"""Beside it: the fingerprint of each model by its name."""
TASKS_FILE = "tasks.json"
"""Beside it: the fingerprint of each problem by its benchmark and id."""

SampleKey: TypeAlias = tuple[str, float, str, str, int]
"""(model, temperature, benchmark, problem id, number of the sample)."""


@dataclass(frozen=True)
class JudgedSample:
    """One sample of one model with its verdict."""

    model: str
    temperature: float
    benchmark: str
    problem_id: str
    sample: int
    text: str
    """What the model wrote; `Task.program` makes a program of it."""
    tokens: int
    cut: bool
    """Sampling ended at a length limit."""
    status: Status
    detail: str
    cases_passed: int
    cases: int
    seconds: float
    """Of the verdict."""

    @property
    def key(self) -> SampleKey:
        """What there may be only one of."""
        return self.model, self.temperature, self.benchmark, self.problem_id, self.sample


def judged(samples: Sequence[JudgedSample], k: int) -> list[JudgedSample]:
    """Those of one model's samples of one problem that have a verdict; a fault of the sandbox says nothing. `DataError`
    where fewer than `k` have."""
    kept = [s for s in samples if s.status != "sandbox_fault"]
    if len(kept) < k:
        first = samples[0]
        raise DataError(
            f"{first.model} has {len(kept)} verdicts on problem {first.problem_id} of {first.benchmark} and pass@{k} "
            "needs as many: the sandbox failed for the others; the same command draws and judges them again"
        )
    return kept


class SampleLog:
    """The file of one evaluation. Opening it drops a last line that a killed writer left unfinished, and
    samples whose verdict was a fault of the sandbox: they are drawn and judged again. One process at a time may have it
    open, another is refused with a `StorageError`."""

    def __init__(self, path: Path) -> None:
        self._alone = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            self._alone.acquire(timeout=0)
        except Timeout:
            raise StorageError(
                f"another process is adding to {path}; wait for it, or give the run another name"
            ) from None
        self.samples = [sample for sample in read_samples(path) if sample.status != "sandbox_fault"]
        self._seen = {sample.key for sample in self.samples}
        write_bytes_atomically(path, "".join(map(_line, self.samples)).encode())
        self._path, self._file = path, path.open("a", encoding="utf-8")

    def __contains__(self, key: SampleKey) -> bool:
        return key in self._seen

    def append(self, sample: JudgedSample) -> None:
        """Write one sample and hand it to the operating system at once; `StorageError` on a full disk. A second one of
        the same key is a bug."""
        assert sample.key not in self._seen, f"sample {sample.key} was judged twice"
        self._seen.add(sample.key)
        self.samples.append(sample)
        try:
            self._file.write(_line(sample))
            self._file.flush()
        except OSError as error:
            raise StorageError(
                f"cannot write {self._path}: {error.strerror or error}; free space and run the same command"
            ) from error

    def close(self) -> None:
        """Close the file. What a full disk has refused is refused once more, to nobody's use."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._alone.release()


def read_samples(path: Path) -> Iterable[JudgedSample]:
    """All whole records of the file; `StorageError` names a line that is none."""
    if not path.exists():
        return
    names = {field.name for field in fields(JudgedSample)}
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
            if record.keys() != names:
                raise ValueError(f"its keys are {sorted(record)}")
        except (ValueError, AttributeError) as error:
            raise StorageError(
                f"{path} line {number} is no sample ({error}); start anew with --fresh"
            ) from error
        yield JudgedSample(**record)


def _line(sample: JudgedSample) -> str:
    return json.dumps(asdict(sample), ensure_ascii=False) + "\n"
