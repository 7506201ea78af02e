"""What README and docs say is true: examples compute what is printed, commands exist and their options are valid."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import get_type_hints

import pytest

from wmtp_ray.config import load_config
from wmtp_ray.config.command import Flags
from wmtp_ray.errors import DataError, ModelError, StorageError

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
FENCE = re.compile(r"^```(?:sh|bash|console)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)[^)]*\)")
JOB = re.compile(r"python jobs/(\w+)\.py\b([^#\n]*)")


def commands() -> list[tuple[str, str, str]]:
    """(page, job, arguments) of every `python jobs/NAME.py` in a code block or in a job's own docstring."""
    texts = [(page.name, block) for page in PAGES for block in FENCE.findall(page.read_text("utf-8"))]
    texts += [(f"jobs/{path.name}", path.read_text("utf-8")) for path in sorted(ROOT.glob("jobs/*.py"))]
    return [
        (where, found[1], found[2])
        for where, text in texts
        for found in JOB.finditer(text.replace("\\\n", " "))
        if ".yaml" in found[2] and "..." not in found[2]
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_compute_what_is_printed(page):
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8", verbose=False)
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_of_the_project(page):
    missing = [
        link for link in LINK.findall(page.read_text("utf-8")) if not (page.parent / link).resolve().exists()
    ]
    assert not missing


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.mark.parametrize(("where", "job", "arguments"), commands())
def test_a_documented_job_takes_its_options_and_says_what_it_would_do(where, job, arguments, root):
    """Or names what is not on this machine: data, models and runs of a user's own."""
    words = shlex.split(arguments)
    run = importlib.import_module(f"jobs.{job}").run
    path = ROOT / words[words.index("--config") + 1]
    overrides = [word for word in words if re.match(r"[a-z_.]+=", word)]
    config = load_config(get_type_hints(run)["config"], path, [*overrides, f"storage.root={root}"])
    with suppress(DataError, ModelError, StorageError):
        run(config, Flags(dry_run=True, fresh=False))
    assert {made.name for made in root.iterdir()} <= {"models"}  # that conversions are kept in


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    code = "\n".join(
        [*FENCE.findall(page.read_text("utf-8")), *re.findall(r"`([^`\n]+)`", page.read_text("utf-8"))]
    )
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= targets
