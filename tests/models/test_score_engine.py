"""Every engine gives the same scores; what they depend on is in the cache's key."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.models.batches import packed_and_padded
from tests.models.test_value_model import trained
from wmtp_ray.data.segments import segments_of, take_samples
from wmtp_ray.models.fingerprint import model_fingerprint
from wmtp_ray.models.score_engine import EngineSettings, load_engine
from wmtp_ray.models.scorer import score
from wmtp_ray.models.value_model import KIND
from wmtp_ray.storage import read_manifest

CPU = torch.device("cpu")
VOCABULARY = 49152


@pytest.fixture(scope="module")
def critic(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> EngineSettings:
    """An exported linear critic on the tiny model."""
    directory = tmp_path_factory.mktemp("critic")
    trained(tiny, head="linear").save(directory, {})
    fingerprint = read_manifest(directory, KIND).fingerprint
    return EngineSettings("values", directory, fingerprint, directory.parent / "models")


def test_a_critic_engine_scores_as_its_model(critic: EngineSettings, tiny: Path) -> None:
    batch, _ = packed_and_padded(VOCABULARY)
    expected = score(trained(tiny, head="linear"), batch, CPU)
    for found, wanted in zip(load_engine(critic, CPU, 1).score(batch), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_reference_engine_gives_each_samples_next_token_losses(tiny: Path) -> None:
    settings = EngineSettings("reference_losses", tiny, model_fingerprint(tiny), tiny.parent, dtype="float32")
    batch, _ = packed_and_padded(VOCABULARY)
    found = load_engine(settings, CPU, 1).score(batch)
    model = AutoModelForCausalLM.from_pretrained(tiny)
    for losses, segment in zip(found, segments_of(batch), strict=True):
        ids = batch.input_ids[segment.row, segment.start : segment.end]
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0].float()
        wanted = torch.nn.functional.cross_entropy(logits[1:-1], ids[2:], reduction="none")
        np.testing.assert_allclose(losses, wanted.numpy(), rtol=1e-4, atol=1e-4)


def test_chosen_samples_keep_their_tokens_and_scores(critic: EngineSettings) -> None:
    batch, _ = packed_and_padded(VOCABULARY)
    chosen = np.array([True, False, True, False, True])
    part = take_samples(batch, chosen)
    assert part.sample_ids.tolist() == batch.sample_ids[torch.from_numpy(chosen)].tolist()
    assert part.segment_ids.max(dim=1).values.tolist() == [1, 0]
    engine = load_engine(critic, CPU, 1)
    whole = [s for s, kept in zip(engine.score(batch), chosen, strict=True) if kept]
    for found, wanted in zip(engine.score(part), whole, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_scores_of_different_engines_have_different_keys(critic: EngineSettings) -> None:
    reference = replace(critic, scored="reference_losses", dtype="float32")
    settings = [
        critic,
        replace(critic, backend="vllm"),
        replace(critic, backend="serve", url="http://localhost:1"),
        replace(critic, fingerprint="another"),
        reference,
        replace(reference, dtype="bfloat16"),
    ]
    identities = [each.identity(device) for each in settings for device in ("cpu", "cuda")]
    assert len(set(identities)) == len(identities)
    assert replace(critic, url="http://elsewhere").identity("cpu") == critic.identity("cpu")


SCRIPT = """
import json, sys
from pathlib import Path
import torch
from tests.models.batches import packed_and_padded
from wmtp_ray.models.score_engine import EngineSettings, load_engine
directory, fingerprint, models = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
settings = EngineSettings("values", directory, fingerprint, models, backend="vllm")
batch, _ = packed_and_padded(49152)
engine = load_engine(settings, torch.device("cpu"), 1)
(models / "found.json").write_text(json.dumps([s.tolist() for s in engine.score(batch)]))
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_vllm_gives_the_values_of_transformers(critic: EngineSettings) -> None:
    critic.models.mkdir(exist_ok=True)
    command = [sys.executable, "-c", SCRIPT, str(critic.directory), critic.fingerprint, str(critic.models)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=380, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads((critic.models / "found.json").read_text())
    batch, _ = packed_and_padded(VOCABULARY)
    for values, wanted in zip(found, load_engine(critic, CPU, 1).score(batch), strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-4)
