"""Classes of tokens as Python's own tokenizer sees them, whatever pieces a model's tokenizer cuts."""

from __future__ import annotations

import token
from functools import cache
from itertools import accumulate
from token import NAME, OP
from tokenize import TokenInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.data.conftest import byte_tokenizer
from tests.tiny import smollm2_directory
from wmtp_ray.models.tokenizer import load_tokenizer
from wmtp_ray.value_weighting.token_classes import (
    FSTRING_END,
    FSTRING_START,
    TOKEN_CLASSES,
    classed,
    python_classes,
    response_classes,
    response_deciles,
    token_pieces,
)

__all__ = ["byte_tokenizer"]

PROGRAM = "def f(x):\n    # twice\n    return 'é' * 2 + x\n"
FSTRING_MIDDLE = getattr(token, "FSTRING_MIDDLE", token.ERRORTOKEN)
SHORT = dict(zip("-wknidc+e", TOKEN_CLASSES, strict=True))
LETTER = {name: letter for letter, name in SHORT.items()}


def letters(classes: object) -> str:
    return "".join(LETTER[TOKEN_CLASSES[c]] for c in classes.tolist())  # type: ignore[attr-defined]


def test_each_character_has_its_class() -> None:
    assert letters(python_classes("if x1 == 12:")) == "kkwnnw++wii+"
    assert letters(python_classes("y = 'a b'  # c\n")) == "nw+wdddddwwcccw"
    assert letters(python_classes("x = (1,\n 2)\n")) == "nw+w+i+wwi+w"


def test_an_f_string_is_a_string_however_python_cuts_it() -> None:
    """`print(f"a{f'{x}'}")`, as Python up to 3.11 and from 3.12 on tokenises it."""
    assert letters(python_classes("""print(f"a{f'{x}'}")""")) == "nnnnn+dddddddddddd+"
    parts = [
        *((NAME, "print"), (OP, "("), (FSTRING_START, 'f"'), (FSTRING_MIDDLE, "a"), (OP, "{")),
        *((FSTRING_START, "f'"), (OP, "{"), (NAME, "x"), (OP, "}"), (FSTRING_END, "'")),
        *((OP, "}"), (FSTRING_END, '"'), (OP, ")")),
    ]
    ends = list(accumulate(len(text) for _, text in parts))
    tokens = [
        TokenInfo(kind, text, (1, end - len(text)), (1, end), "")
        for (kind, text), end in zip(parts, ends, strict=True)
    ]
    found = [(name, start, end) for name, (_, start), (_, end) in classed(tokens)]
    assert found == [("name", 0, 5), ("operator", 5, 6), ("string", 6, 18), ("operator", 18, 19)]


def test_what_is_no_python_is_other_from_there_on() -> None:
    assert letters(python_classes("x = 1\ny = 'open")).startswith("nw+wiw")
    assert letters(python_classes("")) == ""


def test_tokens_take_the_class_of_their_first_visible_character(
    byte_tokenizer: PreTrainedTokenizerFast,
) -> None:
    ids = byte_tokenizer("if x:", add_special_tokens=False)["input_ids"]
    assert letters(response_classes(byte_tokenizer, [*ids, 2], 2)) == "kkwn+e"
    smollm = smollm2_tokenizer()
    ids = smollm(PROGRAM, add_special_tokens=False)["input_ids"]
    pieces = token_pieces(smollm, ids)
    assert "".join(pieces) == PROGRAM
    by_piece = dict(zip(pieces, letters(response_classes(smollm, ids, -1)), strict=True))
    expected = {"def": "k", " return": "k", " f": "n", "2": "i", " +": "+", " x": "n", " twice": "c"}
    assert expected.items() <= by_piece.items()


@cache
def smollm2_tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer(smollm2_directory())


@given(st.text(max_size=30))
@example(" \x80")
def test_pieces_join_to_the_text(text: str) -> None:
    smollm = smollm2_tokenizer()
    ids = smollm(text, add_special_tokens=False)["input_ids"]
    if smollm.decode(ids) == text and "\ufffd" not in text:
        assert "".join(token_pieces(smollm, ids)) == text
    assert len(response_classes(smollm, ids, -1)) == len(ids)


@pytest.mark.parametrize(("n", "expected"), [(20, [0, 0, 1, 1]), (1, [0]), (0, []), (5, [0, 2, 4, 6])])
def test_deciles(n: int, expected: list[int]) -> None:
    assert response_deciles(n)[:4].tolist() == expected[:4]
