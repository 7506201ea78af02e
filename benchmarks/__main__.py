"""`python -m benchmarks [NAME...] [--results FILE]`: run modules of this folder, print figures as JSON lines.

Only figures go to stdout; which module runs, what could not be measured, and the summary, go to stderr. Exits with 1 if
a module failed, with 2 on an unknown name; a missed target is a result, not a failure.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import benchmarks
from benchmarks.figure import Figure, ModuleRun, NotMeasured
from benchmarks.results import heading, results_page


def known_modules() -> list[str]:
    """Names of the modules that have `figures()`, sorted; found without running them."""
    folders = [Path(folder) for folder in benchmarks.__path__]
    return sorted(path.stem for folder in folders for path in folder.glob("*.py") if _measures(path))


def _measures(path: Path) -> bool:
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(s, ast.FunctionDef) and s.name == "figures" for s in statements)


def run_module(name: str, emit: Callable[[Figure], None]) -> ModuleRun:
    """Run one module's `figures()`, handing on each figure as it comes; a failure becomes a result too."""
    measured: list[Figure] = []
    not_measured = failure = None
    start = time.perf_counter()
    try:
        figures: Callable[[], Iterator[Figure]] = importlib.import_module(f"benchmarks.{name}").figures
        for figure in figures():
            measured.append(figure)
            emit(figure)
    except NotMeasured as reason:
        not_measured = str(reason)
    except Exception as error:  # the edge of one module: the others still run, the exit code tells
        traceback.print_exc()
        failure = f"{type(error).__name__}: {error}"
    return ModuleRun(name, tuple(measured), time.perf_counter() - start, not_measured, failure)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, print JSON lines.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="modules of benchmarks/; all if none named")
    parser.add_argument("--results", type=Path, metavar="FILE", help="also write a Markdown table")
    options = parser.parse_args(arguments)
    known = known_modules()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        there_are = ", ".join(known) or "none"
        print(f"no benchmark named {', '.join(unknown)}; there are: {there_are}", file=sys.stderr)
        return 2

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # what was started is ended
    runs: list[ModuleRun] = []
    top = heading()
    for name in options.names or known:
        print(f"{name} ...", file=sys.stderr)
        runs.append(run_module(name, lambda figure: print(figure.to_json(), flush=True)))
        if runs[-1].not_measured:
            print(f"{name}: not measured: {runs[-1].not_measured}", file=sys.stderr)
        if options.results:  # after each: all of them take an hour, and may be interrupted
            options.results.write_text(results_page(top, runs), encoding="utf-8")

    figures = [figure for run in runs for figure in run.figures]
    missed = sum(figure.holds is False for figure in figures)
    failed = [run.name for run in runs if run.failure]
    print(
        f"{len(figures)} figures, {missed} short of their target, {len(failed)} modules failed"
        + (f" ({', '.join(failed)})" if failed else "")
        + (f"; written to {options.results}" if options.results else ""),
        file=sys.stderr,
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
