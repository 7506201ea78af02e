"""The command line that every job shares: `job.py --config FILE [--dry-run] [--fresh] key.sub=value ...`.

A user's mistake (`WMTPError`) is printed as one line and ends with exit code 1; anything else is a bug and keeps its
traceback.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel

from wmtp_ray.config.load import load_config
from wmtp_ray.errors import WMTPError

ConfigT = TypeVar("ConfigT", bound=BaseModel)


@dataclass(frozen=True)
class Flags:
    """What the command line says beside the configuration."""

    dry_run: bool
    fresh: bool


def run_command(
    model: type[ConfigT],
    job: Callable[[ConfigT, Flags], None],
    description: str | None,
    shorthands: Mapping[str, str] | None = None,
) -> None:
    """Parse the command line of this process, load the configuration as a `model`, and run `job`.

    `shorthands`: options that stand for a key; with `{"--rerank": "rerank.run"}`, `--rerank X` is `rerank.run=X`.
    """

    def command(
        config: Annotated[Path, typer.Option(help="The job's configuration, a YAML file.")],
        overrides: Annotated[
            list[str] | None,
            typer.Argument(metavar="[KEY.SUB=VALUE]...", help="Changes to the file, values in YAML."),
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Print what would be done, and start nothing.")
        ] = False,
        fresh: Annotated[
            bool, typer.Option("--fresh", help="Move an existing run aside and start anew.")
        ] = False,
    ) -> None:
        quiet_libraries()
        try:
            job(load_config(model, config, overrides or ()), Flags(dry_run, fresh))
        except WMTPError as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            sys.exit(1)

    # \b keeps the lines of an indented paragraph, the commands, as they are.
    command.__doc__ = description and description.replace("\n\n    ", "\n\n\b\n    ")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)
    app(args=_spelled_out(sys.argv[1:], shorthands or {}))


def _spelled_out(arguments: Sequence[str], shorthands: Mapping[str, str]) -> list[str]:
    spelled, waiting = [], None
    for argument in arguments:
        option, separator, value = argument.partition("=")
        if waiting is not None:
            spelled.append(f"{waiting}={argument}")
            waiting = None
        elif option in shorthands and separator:
            spelled.append(f"{shorthands[option]}={value}")
        elif option in shorthands:
            waiting = shorthands[option]
        else:
            spelled.append(argument)
    if waiting is not None:
        raise SystemExit(f"error: {arguments[-1]} needs a value")
    return spelled


def quiet_libraries() -> None:
    """Keep the chatter of libraries out of a job's output; set WMTP_VERBOSE=1 to see it."""
    if os.environ.get("WMTP_VERBOSE"):
        return
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", module=r"(ray|torch|transformers|datasets|peft|vllm)\b.*")
    for name in ("ray", "transformers", "datasets", "peft", "vllm"):
        logging.getLogger(name).setLevel(logging.ERROR)
