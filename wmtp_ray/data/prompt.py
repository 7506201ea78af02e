"""From a labelled program to token ids: Alpaca template, response boundary, EOS, truncation.

    ids = [bos] + tokenize(prompt) + tokenize(response) + [eos]

Prompt and response are tokenised **separately** and joined, so that the boundary lies where it lies at
sampling time, when the model continues the prompt's ids. Text never produces special tokens: a program that
prints `"</s>"` must not contain an end of sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wmtp_ray.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


@dataclass(frozen=True)
class TokenizedSample:
    """One prompt with its response, as token ids.

    `token_ids[:response_start]` is the prompt (BOS included), `token_ids[response_start:]` the targets: the
    response and its EOS, unless truncation cut that off (`truncated`). At least one target exists.
    """

    sample_id: int
    token_ids: np.ndarray
    """[L] int32."""
    response_start: int
    truncated: bool

    @property
    def num_targets(self) -> int:
        """Response tokens, EOS included."""
        return len(self.token_ids) - self.response_start


def render_prompt(instruction: str, input: str = "") -> str:
    """The Alpaca prompt, ending in `### Response:` and a newline; `### Input:` only where there is an input.

    >>> render_prompt("Add two numbers.").splitlines()[-3:]
    ['Add two numbers.', '', '### Response:']
    """
    if input:
        # One pass over both fields: text that happens to contain "{input}" stays as it is.
        return _WITH_INPUT.format(instruction=instruction, input=input)
    return _WITHOUT_INPUT.format(instruction=instruction)


def encode_text(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of plain texts: no special token is added, and none is recognised inside the text."""
    if not texts:
        return []
    encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
    return encoded["input_ids"]  # type: ignore[return-value]


def with_bos(tokenizer: PreTrainedTokenizerBase, prompt_ids: list[int]) -> list[int]:
    """The prompt's ids as the model sees them: BOS first, if the tokenizer has one."""
    bos = tokenizer.bos_token_id
    return prompt_ids if bos is None else [bos, *prompt_ids]  # type: ignore[list-item]


def tokenize_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a rendered prompt, as a model continues it: what `tokenize_sample` puts before the response."""
    return with_bos(tokenizer, encode_text(tokenizer, [text])[0])


def eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that ends every response; `DataError` for a tokenizer without one."""
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"tokenizer {tokenizer.name_or_path!r} has no EOS token, so no response could end; set eos_token"
        )
    return tokenizer.eos_token_id  # type: ignore[return-value]


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills packed rows: pad, else EOS, else 0. Padding is masked, so it has no effect."""
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(token_id, int):
            return token_id
    return 0


def join_sample(
    *, sample_id: int, prompt_ids: list[int], response_ids: list[int], eos: int, max_length: int
) -> TokenizedSample:
    """Prompt ids (BOS included) + response ids + EOS, cut on the right to `max_length`.

    `DataError` where no response token exists, or the prompt alone fills `max_length`.

    Prompt [1 5 6], response [7 8 9], EOS 2: `max_length` 7 keeps [1 5 6 | 7 8 9 2]; 6 keeps [1 5 6 | 7 8 9]
    (truncated); 3 leaves no target and is refused.
    """
    if not response_ids:
        raise DataError(f"sample {sample_id}: the response is empty; remove the row")
    if len(prompt_ids) >= max_length:
        raise DataError(
            f"sample {sample_id}: its prompt has {len(prompt_ids)} tokens, so max_length {max_length} leaves "
            "no room for a response; raise max_length or remove the row"
        )
    token_ids = np.asarray(prompt_ids + response_ids + [eos], dtype=np.int32)
    return TokenizedSample(
        sample_id=sample_id,
        token_ids=token_ids[:max_length],
        response_start=len(prompt_ids),
        truncated=len(token_ids) > max_length,
    )


def tokenize_sample(
    tokenizer: PreTrainedTokenizerBase,
    *,
    sample_id: int,
    instruction: str,
    input: str,
    output: str,
    max_length: int,
) -> TokenizedSample:
    """Template, BOS, response and EOS of one row (`join_sample` has the truncation and the errors)."""
    prompt_ids, response_ids = encode_text(tokenizer, [render_prompt(instruction, input), output])
    return join_sample(
        sample_id=sample_id,
        prompt_ids=with_bos(tokenizer, prompt_ids),
        response_ids=response_ids,
        eos=eos_id(tokenizer),
        max_length=max_length,
    )
