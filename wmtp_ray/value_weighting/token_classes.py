"""What a response token is in Python's grammar, and how far along its response it stands: what the control
`class_position_matched` and the audit compare weights by.
"""

from __future__ import annotations

import io
import keyword
import token
import tokenize
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.data.segments import segments_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKEN_CLASSES = (
    "other",
    "whitespace",
    "keyword",
    "name",
    "number",
    "string",
    "comment",
    "operator",
    "eos",
)
"""`other`: what Python cannot tokenise, such as the rest of a program that truncation cut inside a string."""
DECILES = 10
NUM_CELLS = len(TOKEN_CLASSES) * DECILES

FSTRING_START = getattr(token, "FSTRING_START", -1)
FSTRING_END = getattr(token, "FSTRING_END", -2)
"""Between the two Python tokenises an f-string from 3.12 on; before, it makes one string of it, and neither occurs."""

_WINDOW = 16
"""Tokens decoded together to find the text that the last of them adds."""


def token_pieces(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """The text that each token adds to the text before it; a character that several tokens share is the last one's.

    Example: the tokens of "x = é", the last character cut in two: ["x", " =", " ", "", "é"].
    """
    pieces: list[str] = []
    for i in range(len(ids)):
        start = max(0, i - _WINDOW)
        before, after = (
            str(tokenizer.decode(ids[start:end], clean_up_tokenization_spaces=False)) for end in (i, i + 1)
        )
        whole = after.rstrip("�") if after.endswith("�") else after
        pieces.append(whole[len(before.rstrip("�")) :])
    return pieces


def python_classes(text: str) -> np.ndarray:
    """[characters] int64, positions in `TOKEN_CLASSES`: what each character of a Python program belongs to.

    A program that stops being Python keeps the classes found up to there; the rest is `other`, or `whitespace`.

    Example: "if x1" → k k w n n.
    """
    kinds = np.full(len(text), TOKEN_CLASSES.index("other"), dtype=np.int64)
    kinds[[character.isspace() for character in text]] = TOKEN_CLASSES.index("whitespace")
    line_starts = np.cumsum([0, *(len(line) for line in io.StringIO(text, newline=""))])

    def place(row: int, column: int) -> int:
        return int(line_starts[min(row - 1, len(line_starts) - 1)]) + column

    try:
        for name, start, end in classed(tokenize.generate_tokens(io.StringIO(text, newline="").readline)):
            kinds[place(*start) : place(*end)] = TOKEN_CLASSES.index(name)
    except (tokenize.TokenError, SyntaxError):
        pass
    return kinds


def classed(
    tokens: Iterable[tokenize.TokenInfo],
) -> Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
    """Class, start and end (row, column) of Python's tokens, an f-string as one string whatever it is cut into."""
    open_fstrings: list[tuple[int, int]] = []
    for found in tokens:
        if found.type == FSTRING_START:
            open_fstrings.append(found.start)
        elif found.type == FSTRING_END:
            start = open_fstrings.pop()
            if not open_fstrings:
                yield "string", start, found.end
        elif not open_fstrings and (name := _class_of(found)) is not None:
            yield name, found.start, found.end


def response_classes(tokenizer: PreTrainedTokenizerBase, ids: list[int], eos_token_id: int) -> np.ndarray:
    """[tokens] int64: the class of each response token, that of the first character which is not white space."""
    body = ids[:-1] if ids and ids[-1] == eos_token_id else ids
    pieces = token_pieces(tokenizer, body)
    of_character = python_classes("".join(pieces))
    whitespace, other = TOKEN_CLASSES.index("whitespace"), TOKEN_CLASSES.index("other")
    classes, start = [], 0
    for piece in pieces:
        own = of_character[start : start + len(piece)]
        start += len(piece)
        visible = own[own != whitespace]
        classes.append(int(visible[0]) if visible.size else whitespace if own.size else other)
    return np.array(classes + [TOKEN_CLASSES.index("eos")] * (len(ids) - len(body)), dtype=np.int64)


def response_characters(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], eos_token_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """[tokens] int64 each: where each response token's text starts and ends; EOS has none, at the very end.

    Example: the tokens "x", " =", EOS → starts 0 1 3, ends 1 3 3.
    """
    body = ids[:-1] if ids and ids[-1] == eos_token_id else ids
    lengths = [len(piece) for piece in token_pieces(tokenizer, body)] + [0] * (len(ids) - len(body))
    ends = np.cumsum(lengths, dtype=np.int64)
    return ends - np.array(lengths, dtype=np.int64), ends


def mutated_tokens(
    tokenizer: PreTrainedTokenizerBase, ids: list[int], span: tuple[int, int], eos_token_id: int
) -> np.ndarray:
    """[tokens] bool: the response tokens that share a character with `span`, half-open; an empty one marks the token
    that follows it."""
    starts, ends = response_characters(tokenizer, ids, eos_token_id)
    return (starts < max(span[1], span[0] + 1)) & (ends > span[0])


def response_deciles(num_tokens: int) -> np.ndarray:
    """[tokens] int64: the tenth of the response that each token stands in. 20 tokens → 0 0 1 1 ... 9 9."""
    return np.arange(num_tokens) * DECILES // max(num_tokens, 1)


def token_cells(tokenizer: PreTrainedTokenizerBase, batch: PackedBatch, eos_token_id: int) -> Tensor:
    """[R, T] int64: class · 10 + decile of every response token, −1 elsewhere."""
    cells_RT = torch.full(batch.shape, -1, dtype=torch.int64)
    for segment in segments_of(batch):
        ids = batch.input_ids[segment.row, segment.response].tolist()
        cells = response_classes(tokenizer, ids, eos_token_id) * DECILES + response_deciles(len(ids))
        cells_RT[segment.row, segment.response] = torch.from_numpy(cells)
    return cells_RT


def _class_of(found: tokenize.TokenInfo) -> str | None:
    match found.type:
        case token.NAME:
            return "keyword" if keyword.iskeyword(found.string) else "name"
        case token.NUMBER:
            return "number"
        case token.STRING:
            return "string"
        case token.COMMENT:
            return "comment"
        case token.OP:
            return "operator"
    return None  # line ends and indentation stay white space
