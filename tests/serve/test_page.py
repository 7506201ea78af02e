"""The page in headless Chromium: from its link to coloured tokens, by keyboard, on long programs, without a network."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import httpx
import pytest

PAGE = Path(__file__).resolve().parents[2] / "serve" / "page"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine to show the page in"
)
OPTIONS = {
    "lam": 0.95,
    "beta": 1,
    "min_weight": 0.1,
    "max_weight": 3,
    "statistics": "batch",
    "normalize": "none",
}


def fragment(first: str, second: str = "", **options: object) -> str:
    view = {"problem": "Add two numbers.", "first": first, "second": second, "options": OPTIONS | options}
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(json.dumps(view).encode()) + packer.flush()
    return "#v1=" + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def shown(address: str, profile: Path) -> str:
    """The document as Chromium has it after the page's scripts ran."""
    assert CHROMIUM is not None
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    )
    flags += " --disable-component-update --disable-sync --virtual-time-budget=20000 --dump-dom"
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def tag(id: str, page: str) -> str:
    """The opening tag of an element."""
    found = re.search(rf'<[^>]*id="{id}"[^>]*>', page)
    assert found is not None
    return found[0]


@needs_chromium
def test_a_link_shows_its_view(url: str, tmp_path: Path) -> None:
    code = "def add(a, b):\n    return a + b  # 👧\n"
    page = shown(f"{url}/{fragment(code, 'pass')}", tmp_path)
    assert page.count('role="listbox"') == 2
    answer = httpx.post(
        f"{url}/v1/score",
        json={"items": [{"instruction": "Add two numbers.", "response": text} for text in (code, "pass")]},
    ).json()
    labels = re.findall(r'aria-label="([^"]*), weight ([\d.]+), value', page)
    expected = [(t["piece"], t["weight"]) for item in answer["items"] for t in item["tokens"]]
    visible = [(piece, weight) for piece, weight in expected if piece] + [("end", 0)] * 2
    assert len(labels) == len(visible)  # the tokens that complete the emoji are shown as one
    weights = {f"{weight:.2f}" for piece, weight in expected if piece and "👧" not in piece}
    assert weights <= {weight for _, weight in labels}
    assert re.search(r'id="preference">\d+ %<', page)
    assert "hidden" not in tag("result", page) and "hidden" in tag("empty", page)
    assert re.search(r'role="status">Both scored: \d+ % that A is the better one\.<', page)


@needs_chromium
def test_what_is_refused_is_said(url: str, tmp_path: Path) -> None:
    page = shown(f"{url}/{fragment('x = 1', min_weight=4)}", tmp_path)
    assert re.search(r'role="alert">[^<]*min_weight 4', page)
    assert "hidden" in tag("result", page) and "hidden" not in tag("empty", page)


@needs_chromium
@pytest.mark.parametrize("slash", ["", "/"])
def test_below_a_route_prefix_it_is_the_same(url: str, slash: str, tmp_path: Path) -> None:
    page = shown(f"{url}/below/a/prefix{slash}{fragment('x = 1')}", tmp_path)
    assert "hidden" not in tag("result", page)
    assert page.count("<option") == shown(f"{url}/", tmp_path).count("<option")
    assert f"curl {url}/below/a/prefix/v1/score" in shown(f"{url}/below/a/prefix/docs", tmp_path)


@needs_chromium
def test_an_empty_bound_is_the_services_own(url: str, tmp_path: Path) -> None:
    page = shown(f"{url}/{fragment('x = 1', min_weight='', max_weight='')}", tmp_path)
    assert "hidden" not in tag("result", page)
    assert 'id="least">0.1<' in page and 'id="greatest">3.0<' in page


@needs_chromium
@pytest.mark.parametrize("check", ["keyboard", "long", "link", "rolled", "token"])
def test_in_the_browser(url: str, tmp_path: Path, check: str) -> None:
    """The checks of `page_checks/`, which use the page's own modules and write what they found."""
    page = shown(f"{url}/checks/frame.html#{check}", tmp_path)
    found = re.search(r'<pre id="found">(.*?)</pre>', page, re.S)
    assert found is not None, page[-2000:]
    assert found[1].strip() == "as wanted"


def test_nothing_comes_from_elsewhere(url: str) -> None:
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", text), f"{file.name} names another server"
    for path in ("/", "/docs"):
        policy = httpx.get(url + path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")


def test_every_module_of_the_page_is_served(url: str) -> None:
    for file in PAGE.iterdir():
        answer = httpx.get(f"{url}/page/{file.name}")
        assert answer.status_code == 200
        if file.suffix == ".js":
            assert "javascript" in answer.headers["content-type"]
