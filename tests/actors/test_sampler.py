"""The sampling engine against transformers: the same tokens, adapters really applied, seeds that belong to a sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.sampler import EngineSettings, SamplerActor
from tests.tiny import save_tiny_model
from wmtp_ray.config import LoRAConfig
from wmtp_ray.data.prompt import tokenize_prompt
from wmtp_ray.errors import DataError
from wmtp_ray.evaluation.sampling import Completion, Decoding, Request, request_seed
from wmtp_ray.models import MTPPolicy, load_tokenizer

TOKENS = 12
GREEDY = Decoding(temperature=0.0, top_p=1.0, max_tokens=TOKENS)
WARM = Decoding(temperature=1.0, top_p=0.95, max_tokens=TOKENS)
PROMPTS = ("def add(a, b):", "class Stack:\n    def push(self, x):\n", "x = [1, 2, 3]\n")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model in `base`, an adapter of it in `adapter`, both merged in `merged`."""
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder / "base")
    policy = MTPPolicy.from_pretrained(folder / "base", num_heads=2, lora=LoRAConfig(rank=4))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    policy.save_adapter(folder / "adapter")
    policy.export_hf(folder / "merged")
    return folder


@pytest.fixture(scope="module")
def engine(tiny: Path) -> SamplerActor:
    """One engine, in this process, for base and adapter."""
    pytest.importorskip("vllm", reason="vLLM is not installed: pip install wmtp-ray[cpu] or [gpu]")
    return SamplerActor(EngineSettings(str(tiny / "base"), "float32", max_length=256, lora_rank=4))


def requests(
    prompts: tuple[str, ...] = PROMPTS, samples: int = 1, stops: tuple[str, ...] = ()
) -> list[Request]:
    """`samples` requests of each prompt."""
    return [
        Request("b", str(p), i, prompt, stops, request_seed(0, "b", str(p), i))
        for p, prompt in enumerate(prompts)
        for i in range(samples)
    ]


def by_key(completions: list[Completion]) -> dict[tuple[str, int], str]:
    """Texts by (problem, sample)."""
    return {(c.problem_id, c.sample): c.text for c in completions}


def greedy_of_transformers(model: Path) -> dict[tuple[str, int], str]:
    """What transformers writes."""
    reference: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = load_tokenizer(model)
    texts = {}
    for number, prompt in enumerate(PROMPTS):
        ids = torch.tensor([tokenize_prompt(tokenizer, prompt)])
        out = reference.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=TOKENS
        )
        texts[str(number), 0] = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    return texts


def test_greedy_samples_are_those_of_transformers_for_base_and_adapter(
    tiny: Path, engine: SamplerActor
) -> None:
    base = by_key(list(engine.sample(requests(), GREEDY)))
    adapted = by_key(list(engine.sample(requests(), GREEDY, str(tiny / "adapter"))))
    assert base == greedy_of_transformers(tiny / "base")
    assert adapted == greedy_of_transformers(tiny / "merged")
    assert all(adapted[key] != base[key] for key in base), "the adapter changed nothing"


def test_a_sample_does_not_depend_on_what_is_drawn_with_it(engine: SamplerActor) -> None:
    everything = requests(samples=3)
    together = by_key(list(engine.sample(everything, WARM)))
    apart = by_key([c for request in reversed(everything) for c in engine.sample([request], WARM)])
    assert together == apart
    assert len({together["0", i] for i in range(3)}) == 3, "samples of a problem differ by their seeds"


def test_more_prompts_than_the_engine_reads_at_once_keep_their_seeds(engine: SamplerActor) -> None:
    prompts = tuple(f"value_{n} = {n}\n" * 22 for n in range(40))
    drawn = by_key(list(engine.sample(requests(prompts), WARM)))
    assert len(drawn) == 40
    [alone] = engine.sample(requests(prompts)[7:8], WARM)
    assert alone.text == drawn["7", 0]


def test_cut_and_stopped_samples_are_told_apart(engine: SamplerActor) -> None:
    [cut] = engine.sample(requests(PROMPTS[:1]), GREEDY)
    assert cut.cut and cut.tokens == TOKENS
    stop = cut.text[2:5]
    [stopped] = engine.sample(requests(PROMPTS[:1], stops=(stop,)), GREEDY)
    assert not stopped.cut and stopped.text == cut.text[: cut.text.index(stop)]


def test_a_prompt_without_room_for_an_answer_may_count_as_cut(
    engine: SamplerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_long_prompts", "unsolved")
    asked = requests(("x = 1\n" * 300, PROMPTS[0]))
    drawn = {c.problem_id: c for c in engine.sample(asked, GREEDY)}
    assert drawn["0"].cut and drawn["0"].tokens == 0 and drawn["0"].text == ""
    [alone] = engine.sample(requests(PROMPTS[:1]), GREEDY)
    assert drawn["1"].text == alone.text


def test_a_prompt_without_room_for_an_answer_is_named(engine: SamplerActor) -> None:
    with pytest.raises(DataError, match=r"b problem 0: its prompt has \d+ tokens and the engine takes 256"):
        list(engine.sample(requests(("x = 1\n" * 300,)), GREEDY))
