"""The prompt: template, boundary, EOS, truncation."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from wmtp_ray.data.prompt import render_prompt, tokenize_prompt, tokenize_sample
from wmtp_ray.errors import DataError

FIXTURES_OK = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


def test_template_without_input():
    assert render_prompt("Add.") == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Response:\n"
    )


def test_template_with_input():
    assert render_prompt("Add.", "1 2") == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"
    )


def test_braces_in_the_text_stay():
    assert "{input} {0}" in render_prompt("{input} {0}", "x")


@FIXTURES_OK
@given(instruction=st.text(max_size=20), input=st.text(max_size=5), output=st.text(min_size=1, max_size=30))
def test_ids_are_prompt_then_response_then_eos(
    byte_tokenizer: PreTrainedTokenizerFast, instruction: str, input: str, output: str
):
    sample = tokenize_sample(
        byte_tokenizer, sample_id=3, instruction=instruction, input=input, output=output, max_length=10_000
    )
    prompt = render_prompt(instruction, input)
    assert sample.token_ids[0] == byte_tokenizer.bos_token_id
    assert sample.token_ids[-1] == byte_tokenizer.eos_token_id
    assert byte_tokenizer.decode(sample.token_ids[1 : sample.response_start]) == prompt
    assert byte_tokenizer.decode(sample.token_ids[sample.response_start : -1]) == output
    assert sample.token_ids[: sample.response_start].tolist() == tokenize_prompt(byte_tokenizer, prompt)
    assert not sample.truncated


def test_special_tokens_inside_text_are_text(byte_tokenizer: PreTrainedTokenizerFast):
    sample = tokenize_sample(
        byte_tokenizer, sample_id=0, instruction="print <s>", input="", output="print('</s>')", max_length=999
    )
    assert (sample.token_ids == byte_tokenizer.eos_token_id).sum() == 1
    assert (sample.token_ids == byte_tokenizer.bos_token_id).sum() == 1


@FIXTURES_OK
@given(room=st.integers(min_value=-3, max_value=12))
def test_truncation_on_the_right(byte_tokenizer: PreTrainedTokenizerFast, room: int):
    prompt_length = len(tokenize_prompt(byte_tokenizer, render_prompt("x")))

    def tokenize(max_length: int):
        return tokenize_sample(
            byte_tokenizer, sample_id=7, instruction="x", input="", output="return 1", max_length=max_length
        )

    full = tokenize(10_000)
    if room <= 0:
        with pytest.raises(DataError, match="sample 7"):
            tokenize(prompt_length + room)
        return
    cut = tokenize(prompt_length + room)
    assert cut.token_ids.tolist() == full.token_ids[: prompt_length + room].tolist()
    assert cut.truncated == (room < len("return 1") + 1)
    assert cut.num_targets == min(room, len("return 1") + 1)


def test_empty_response_is_refused(byte_tokenizer: PreTrainedTokenizerFast):
    with pytest.raises(DataError, match="empty"):
        tokenize_sample(byte_tokenizer, sample_id=1, instruction="x", input="", output="", max_length=999)
