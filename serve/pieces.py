"""Which characters of the response each token stands for.

A tokenizer cuts bytes, readers see characters: an emoji may be spread over three tokens, and a token may hold the end
of one character and the beginning of the next. So spans may overlap, and pieces do not:

    response   h    é (2 bytes)   👧 (4 bytes)
    tokens     h    Ã   ©         ðŁ   ĳ   §
    spans      0-1  1-2 1-2       2-3  2-3 2-3
    pieces     "h"  "é" ""        "👧" ""  ""        together: the response
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from wmtp_ray.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Pieces:
    """`spans[i]` is [start, end) in characters of `text`, `texts[i]` what token i adds to it."""

    text: str
    spans: list[tuple[int, int]]
    texts: list[str]

    @classmethod
    def of(cls, text: str, spans: Iterable[tuple[int, int]]) -> Pieces:
        """Gaps between spans belong to the token after them (some tokenizers leave white space out of their spans)."""
        covered = 0
        whole: list[tuple[int, int]] = []
        texts: list[str] = []
        for start, end in spans:
            end = max(min(end, len(text)), min(start, covered))
            whole.append((min(start, covered), end))
            texts.append(text[covered:end])
            covered = max(covered, end)
        return cls(text[:covered], whole, texts)


def pieces_of_text(tokenizer: PreTrainedTokenizerBase, text: str, count: int) -> Pieces:
    """Of a response's first `count` tokens; white space that the tokenizer drops at the end is the last token's."""
    encoded = tokenizer(
        [text],
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    spans: list[tuple[int, int]] = encoded["offset_mapping"][0]  # type: ignore[index]
    if spans and count >= len(spans):
        spans = [*spans[:-1], (spans[-1][0], len(text))]
    return Pieces.of(text, spans[:count])


def pieces_of_ids(tokenizer: PreTrainedTokenizerBase, token_ids: list[int]) -> Pieces:
    """Of ids without a text: the text is what they decode to. Tokens that together make a character share its span;
    special tokens have no text."""
    stream, backend = DecodeStream(skip_special_tokens=True), backend_of(tokenizer)
    special = set(tokenizer.all_special_ids)
    text = ""
    spans: list[tuple[int, int]] = []
    unfinished: list[int] = []
    for place, token_id in enumerate(token_ids):
        spans.append((len(text), len(text)))
        if token_id in special:
            continue
        unfinished.append(place)
        new = stream.step(backend, token_id)
        if new is not None:
            text = _finish(spans, unfinished, text, new)
    whole: str = backend.decode(token_ids, skip_special_tokens=True)
    if unfinished and whole.startswith(text):  # bytes at the very end that are no whole character
        text = _finish(spans, unfinished, text, whole[len(text) :])
    return Pieces.of(text, spans)


def _finish(spans: list[tuple[int, int]], unfinished: list[int], text: str, new: str) -> str:
    """Give `new` to the unfinished tokens and return the text with it."""
    for place in unfinished:
        spans[place] = (len(text), len(text) + len(new))
    unfinished.clear()
    return text + new


def backend_of(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer that knows character positions; `ModelError` where it is written in plain Python."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path!r} does not know character positions; convert it to "
            "tokenizer.json"
        )
    return backend
