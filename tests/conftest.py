"""What all tests share: no downloads, one thread per process, hypothesis' profile, the real data sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before any test module imports a library that reads them. Set, not defaulted: a test that fetched something
# would pass on one machine only.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray gives its workers a lower priority than anything else: whatever shares the machine would starve those under test.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (its name)
# A cluster named in the user's environment is not the tests' to use.
os.environ.pop("RAY_ADDRESS", None)

# Times on a busy machine say nothing; failing examples are reproduced by their printed blob.
settings.register_profile(
    "wmtp", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow], max_examples=50
)
settings.load_profile("wmtp")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets named by WMTP_TEST_DATA; skips the test where there is none."""
    named = os.environ.get("WMTP_TEST_DATA")
    if not named:
        pytest.skip("WMTP_TEST_DATA is not set; it names the folder with the real data sets")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"WMTP_TEST_DATA={named} is not a folder; correct it, or unset it to skip these tests")
    return folder
