"""Configuration of `jobs/prepare.py`: a source, a tokenizer, and what is kept."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from wmtp_ray.config.base import Section
from wmtp_ray.config.jobs import JobConfig
from wmtp_ray.config.run import Fraction


class MiniSourceConfig(Section):
    """The project's own small problems; programs are made and labelled by running tests in the sandbox."""

    kind: Literal["mini"]
    families: tuple[str, ...] | None = None
    """null = all."""


class JsonlSourceConfig(Section):
    """Files with one `{instruction, input, output, problem_id, is_correct, difficulty?, split?, language?}` a
    line; compressed or remote ones too."""

    kind: Literal["jsonl"]
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    valid_share: Fraction = 0.0
    """Share of the problems that go to split `valid`, where lines name no split."""
    test_share: Fraction = 0.0

    @model_validator(mode="after")
    def _some_left(self) -> Self:
        if self.valid_share + self.test_share >= 1:
            raise ValueError(
                f"valid_share + test_share = {self.valid_share + self.test_share:g} leave nothing to "
                "train on; lower them"
            )
        return self


SourceConfig = Annotated[MiniSourceConfig | JsonlSourceConfig, Field(discriminator="kind")]


class PrepareClusterConfig(Section):
    """Logical CPUs of each Ray Data task; as many run at a time as the cluster has room for."""

    cpus_per_read: PositiveFloat = 1.0
    """Reading a part of the source; for `mini`, running its programs."""
    cpus_per_tokenize: PositiveFloat = 0.9
    """Tokenising. Other than `cpus_per_read`, or Ray Data makes one task of both, and a source in one part is
    tokenised by one process."""


class PrepareJobConfig(JobConfig):
    """`jobs/prepare.py`. `name` is the store's."""

    source: SourceConfig
    tokenizer: str
    """The model whose tokenizer counts: as `model.name` of the jobs that will train on the store."""
    max_length: PositiveInt
    """Longest sample, counted with template, BOS and EOS; longer responses are cut."""
    languages: Annotated[tuple[str, ...], Field(min_length=1)] = ("python3",)
    max_bytes: PositiveInt = 1_000_000
    """Longest program."""
    cluster: PrepareClusterConfig = PrepareClusterConfig()
