"""Where labelled programs come from. A source is small and picklable; see `wmtp_ray.data.records.Source`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wmtp_ray.config.prepare import (
    CodeContestsSourceConfig,
    HumanEvalSourceConfig,
    IndexedJsonlSourceConfig,
    JsonlSourceConfig,
    MbppSourceConfig,
    MiniSourceConfig,
    ProblemsSourceConfig,
    SamplesSourceConfig,
    SourceConfig,
)
from wmtp_ray.data.records import Problem, Reject, Source
from wmtp_ray.data.sources.files import found_files, name_of, sizes, state_of


def build_source(config: SourceConfig, languages: tuple[str, ...] = ("python3",)) -> Source:
    """The source that a `source` section describes. `languages`: those that a source may skip the others of."""
    match config:
        case MiniSourceConfig():
            from wmtp_ray.data.sources.mini import MiniSource

            return MiniSource(config.families)
        case JsonlSourceConfig():
            from wmtp_ray.data.sources.jsonl import JsonlSource

            return JsonlSource(config.paths)
        case ProblemsSourceConfig():
            from wmtp_ray.data.sources.problem_lines import ProblemLinesSource

            return ProblemLinesSource(config.paths)
        case SamplesSourceConfig():
            from wmtp_ray.data.sources.samples import samples_source

            return samples_source(config, languages)
        case IndexedJsonlSourceConfig():
            from wmtp_ray.data.sources.indexed_jsonl import IndexedJsonlSource

            return IndexedJsonlSource(config.paths)
        case CodeContestsSourceConfig():
            from wmtp_ray.data.sources.codecontests import CodeContestsSource

            place = (config.paths, config.dataset or "", config.revision, config.splits)
            return CodeContestsSource(*place, languages, config.tests)
        case MbppSourceConfig():
            from wmtp_ray.data.sources.mbpp import MbppSource

            return MbppSource(
                config.paths, config.dataset or "", config.configuration, config.revision, config.splits
            )
        case HumanEvalSourceConfig():
            from wmtp_ray.data.sources.humaneval import HumanEvalSource

            return HumanEvalSource(config.path)


def all_problems(source: Source) -> Iterator[Problem | Reject]:
    """Everything of a source, read in this process."""
    for partition in source.partitions():
        yield from source.problems(partition)


def source_identity(config: SourceConfig) -> dict[str, Any]:
    """A source as a manifest records it: its section, with names and sizes of files instead of their places.

    So a store has the same fingerprint wherever its files lay; an edit that keeps a file's size does not show.
    `DataError` for a file that is missing or empty.
    """
    identity = config.model_dump(mode="json")
    for key in ("path", "paths"):
        identity.pop(key, None)
    if files := source_files(config):
        identity["files"] = [
            {"name": name_of(path), "bytes": size} for path, size in zip(files, sizes(files), strict=True)
        ]
    if isinstance(config, SamplesSourceConfig):
        from wmtp_ray.data.sources.samples import collected_from, problems_identity

        identity |= {"run": config.run.name, "problems": problems_identity(*collected_from(config.run))}
    return identity


def source_state(config: SourceConfig) -> list[str]:
    """Changes when a file of the source does, as far as its file system tells."""
    return [state_of(path) for path in source_files(config)]


def source_files(config: SourceConfig) -> tuple[str, ...]:
    """The files that a source reads."""
    match config:
        case SamplesSourceConfig(run=run):
            from wmtp_ray.data.sources.samples import samples_file

            return (str(samples_file(run)),)
        case CodeContestsSourceConfig(paths=paths) if paths:
            return found_files(paths, (".parquet",))
        case IndexedJsonlSourceConfig(paths=paths):
            from wmtp_ray.data.sources.indexed_jsonl import metadata_path

            return tuple(file for path in paths for file in (path, metadata_path(path)))
        case (
            JsonlSourceConfig(paths=paths) | MbppSourceConfig(paths=paths) | ProblemsSourceConfig(paths=paths)
        ):
            return paths
        case HumanEvalSourceConfig(path=str(path)):
            return (path,)
    return ()
