"""`python -m serve`: a mistake is one line, before anything is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from serve.critic import critic_directory
from tests.serve.conftest import CHECKOUT
from wmtp_ray.config.load import load_config, validate_overrides
from wmtp_ray.config.serve import ServeCommandConfig, ServeConfig, ServedCriticConfig
from wmtp_ray.errors import ConfigError


def test_a_mistake_is_one_line_before_anything_starts(root: Path) -> None:
    """The gravest: everyone on the network could ask."""
    command = [sys.executable, "-W", "ignore", "-m", "serve", f"storage.root={root}", "listen.host=0.0.0.0"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(
        "error: the HTTP server listens on 0.0.0.0, beyond this machine, and there are no"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("listen.prot=9000", "did you mean port"),
        ("critic.path=/nowhere", "set exactly one of them"),
        ("listen.port=70000", "less than or equal to 65535"),
        ("limits.request_seconds=50", "less than or equal to 45"),  # a replica drains for 50 s
    ],
)
def test_keys_and_values_are_checked(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        validate_overrides(ServeCommandConfig, [override])


def test_a_critic_that_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no finished critic in .*make quickstart"):
        critic_directory(ServedCriticConfig(), tmp_path)


def test_the_clusters_configuration_is_one_of_the_service() -> None:
    deployed = yaml.safe_load((CHECKOUT / "serve" / "config.yaml").read_text())
    (application,) = deployed["applications"]
    assert application["import_path"] == "serve.app:app"
    ServeConfig.model_validate(application["deployments"][0]["user_config"])
    assert deployed["http_options"]["host"] == "127.0.0.1"


def test_a_request_that_could_never_be_queued_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"limits.request_tokens = 65536 is more than limits.queue_tokens = 100"
    ):
        validate_overrides(ServeCommandConfig, ["limits.queue_tokens=100"])
    file = tmp_path / "serve.yaml"
    file.write_text("critic: {path: export, run: null}\n")
    with pytest.raises(ConfigError, match="is relative"):
        load_config(ServeConfig, file)
