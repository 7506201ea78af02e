"""`scripts/setup.sh`: one clear line on bad ground, nothing to do when up to date, nothing half-made kept.

A stand-in interpreter (a shell script that writes down how pip was called) takes the place of Python, so that
nothing is installed; the real set-up is what runs before these tests.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PYTHON = """#!/bin/bash
case "$*" in
  *version_info*) echo "{version}" ;;
  --version) echo "Python {version}" ;;
  *ensurepip*) exit {ensurepip} ;;
  "-m venv "*)
    mkdir -p "$3/bin" "$3/lib/python3.11/site-packages"
    cp "$0" "$3/bin/python"
    echo "#!$PWD/$3/bin/python" >"$3/bin/pip" ;;
  *"pip install"*)
    echo "$*" >>"{calls}"
    if [[ "$*" == *"{broken}"* && "$*" != *index-url* ]]; then
      echo "ERROR: No matching distribution found for {broken}" >&2
      exit 1
    fi ;;
esac
"""


@dataclass(frozen=True)
class Checkout:
    """A copy of what the set-up reads, with a stand-in interpreter in bin/."""

    root: Path

    @property
    def calls(self) -> Path:
        return self.root / "pip-calls"

    def python(self, version: str = "3 11", broken: str = "nothing", ensurepip: int = 0) -> None:
        text = PYTHON.format(version=version, broken=broken, ensurepip=ensurepip, calls=self.calls)
        self.tool("python3.11", text)

    def tool(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def setup(self, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.root / 'bin'}:/usr/bin:/bin"
        return subprocess.run(
            [self.root / "scripts" / "setup.sh"],
            env={"PATH": path, "TMPDIR": str(self.root), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def pip_calls(self) -> list[str]:
        """What pip was asked to install since the last look, one string per call."""
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return calls


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "check out"  # a path with a space
    (root / "bin").mkdir(parents=True)
    (root / "scripts").mkdir()
    (root / "requirements").mkdir()
    shutil.copy(ROOT / "scripts" / "setup.sh", root / "scripts")
    shutil.copy(ROOT / "requirements" / "lock.txt", root / "requirements")
    made = Checkout(root)
    made.python()
    made.tool("df", "#!/bin/sh\necho head\necho disk 90000000 1 80000000 1% /\n")
    return made


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr of a set-up that refused."""
    assert done.returncode == 1
    assert done.stderr.startswith("setup: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_installs_the_lock_without_resolution_then_has_nothing_to_do(checkout: Checkout) -> None:
    done = checkout.setup()
    assert (done.returncode, done.stderr) == (0, "")
    calls = checkout.pip_calls()
    assert len(calls) == 3
    assert all("--no-deps" in call for call in calls)
    assert calls[0].endswith(" torch==2.13.0+cpu")
    assert calls[1].endswith("-r requirements/lock.txt")
    assert calls[2].endswith("--editable .")

    again = checkout.setup()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert checkout.pip_calls() == []


def test_a_changed_lock_is_installed_over_the_old(checkout: Checkout) -> None:
    checkout.setup()
    checkout.pip_calls()
    users_own = checkout.root / ".venv" / "users-own"
    users_own.touch()
    with (checkout.root / "requirements" / "lock.txt").open("a") as lock:
        lock.write("another==1.0\n")
    assert checkout.setup().returncode == 0
    assert len(checkout.pip_calls()) == 3
    assert users_own.exists()


@pytest.mark.parametrize("damage", ["interrupted", "moved", "other Python"])
def test_half_a_venv_is_made_anew(checkout: Checkout, damage: str) -> None:
    checkout.setup()
    venv = checkout.root / ".venv"
    (venv / "half").touch()
    (venv / "installed").unlink()
    if damage == "interrupted":
        (venv / "unfinished").touch()
    elif damage == "moved":
        (venv / "bin" / "pip").write_text("#!/elsewhere/.venv/bin/python\n")
    else:
        (venv / "lib" / "python3.11").rename(venv / "lib" / "python3.12")
    assert checkout.setup().returncode == 0
    assert not (venv / "half").exists()


def test_torch_comes_from_its_own_index_where_pip_does_not_find_it(checkout: Checkout) -> None:
    checkout.python(broken=" torch==2.13.0+cpu")
    done = checkout.setup(TORCH_INDEX="file:///torch")
    assert (done.returncode, done.stderr) == (0, "")
    assert "torch==2.13.0+cpu is not where pip looks first" in done.stdout
    assert checkout.pip_calls()[1].endswith("--index-url file:///torch torch==2.13.0+cpu")


def test_a_failing_pip_is_one_line_and_leaves_no_stamp(checkout: Checkout) -> None:
    checkout.python(broken="-r requirements/lock.txt")
    assert "cannot install the lock: No matching distribution found" in refused(checkout.setup())
    assert not (checkout.root / ".venv" / "installed").exists()
    checkout.python()
    assert checkout.setup().returncode == 0


def test_another_python_is_named(checkout: Checkout) -> None:
    checkout.python(version="3.9.18")
    line = refused(checkout.setup(PYTHON="python3.11"))
    assert "needs Python 3.11" in line
    assert "found Python 3.9.18" in line
    assert "make setup PYTHON=" in line
    assert not (checkout.root / ".venv").exists()


def test_no_python_at_all(checkout: Checkout) -> None:
    assert "found no Python" in refused(checkout.setup(PYTHON="python-that-is-not-there"))


def test_a_python_without_venv_names_the_package(checkout: Checkout) -> None:
    checkout.python(ensurepip=1)
    assert "apt install python3.11-venv" in refused(checkout.setup())


def test_a_full_disk_is_named_before_anything_is_made(checkout: Checkout) -> None:
    checkout.tool("df", "#!/bin/sh\necho head\necho disk 90000000 1 1500000 99% /\n")
    assert "needs 6 GB on the disk of" in (line := refused(checkout.setup()))
    assert "1 GB free" in line
    assert not (checkout.root / ".venv").exists()
