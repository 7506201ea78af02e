"""What the models export, loaded by vLLM in a process of its own: plain model, adapter, token classifier."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.models.batches import packed_and_padded
from tests.models.test_policy import perturb
from tests.models.test_value_model import trained, values
from wmtp_ray.config import LoRAConfig
from wmtp_ray.models import MTPPolicy

SCRIPT = """
import json, sys
from pathlib import Path
from vllm import LLM, SamplingParams
from vllm.config import PoolerConfig
from vllm.lora.request import LoRARequest

root, base, ids = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
common = {"enforce_eager": True, "dtype": "float32", "max_model_len": 64, "max_num_seqs": 4}
prompts = [{"prompt_token_ids": sample} for sample in ids]
greedy = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)

def generate(model, **settings):
    request = settings.pop("lora_request", None)
    outputs = LLM(model=model, **common, **settings).generate(prompts, greedy, use_tqdm=False, lora_request=request)
    return [list(output.outputs[0].token_ids) for output in outputs]

adapter = LoRARequest("policy", 1, str(root / "adapter"))

def score(model):
    critic = LLM(model=model, runner="pooling", **common,
                 pooler_config=PoolerConfig(task="token_classify", use_activation=False))
    outputs = critic.encode(prompts, pooling_task="token_classify", use_tqdm=False)
    return [output.outputs.data.flatten().tolist() for output in outputs]

found = {
    "plain": generate(str(root / "plain")),
    "adapter": generate(base, enable_lora=True, max_lora_rank=8, lora_request=adapter),
    "values": score(str(root / "critic")),
}
(root / "found.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_vllm_loads_model_adapter_and_critic_with_equal_results(tiny: Path, tmp_path: Path) -> None:
    _, padded = packed_and_padded(49152)
    ids = [
        row[segment == 0].tolist() for row, segment in zip(padded.input_ids, padded.segment_ids, strict=True)
    ]
    policy = MTPPolicy.from_pretrained(tiny, 3, lora=LoRAConfig(rank=8, last_layers=2))
    perturb(policy)
    # With `mtp/` beside the plain model: vLLM must not mind.
    policy.save_pretrained(tmp_path / "plain")
    policy.save_adapter(tmp_path / "adapter")
    critic = trained(tiny, head="linear", num_layers=2)
    critic.export_token_classification(tmp_path / "critic")

    environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(tiny), json.dumps(ids)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    expected = []
    for sample in ids:
        tokens = torch.tensor([sample])
        for _ in range(8):
            with torch.no_grad():
                tokens = torch.cat([tokens, model(input_ids=tokens).logits[:, -1:].argmax(-1)], dim=1)
        expected.append(tokens[0, len(sample) :].tolist())
    assert found["plain"] == expected
    assert found["adapter"] == expected
    for sample, row, segment in zip(
        found["values"], values(critic, packed=False, vocabulary=49152), padded.segment_ids, strict=True
    ):
        torch.testing.assert_close(torch.tensor(sample), row[segment == 0], rtol=1e-4, atol=1e-4)
