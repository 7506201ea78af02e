"""Characters and tokens: the pieces are the response, whatever bytes the tokenizer cut it into."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from serve.pieces import Pieces, pieces_of_ids, pieces_of_text
from tests.tiny import smollm2_directory
from wmtp_ray.data.prompt import encode_text
from wmtp_ray.models.tokenizer import load_tokenizer

TOKENIZER: PreTrainedTokenizerBase = load_tokenizer(smollm2_directory())
# This tokenizer has no token for some rare bytes, such as 16; a text of nothing else has a test of its own.
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(
    lambda text: encode_text(TOKENIZER, [text])[0]
)
HARD = "a  b\n\n    é 👩‍👩‍👧 x�y𝔘 \t 中文\x00"


def _check(pieces: Pieces) -> None:
    assert "".join(pieces.texts) == pieces.text
    covered = 0
    for (start, end), piece in zip(pieces.spans, pieces.texts, strict=True):
        assert 0 <= start <= end <= len(pieces.text)
        assert start <= covered
        assert piece == pieces.text[covered : max(covered, end)]
        covered = max(covered, end)
    assert covered == len(pieces.text)


@given(TEXTS)
@example(HARD)
@example("�")
@example("<|im_end|>")
@example("a\x16b\x16")
def test_pieces_of_a_text_are_the_text(text: str) -> None:
    ids = encode_text(TOKENIZER, [text])[0]
    pieces = pieces_of_text(TOKENIZER, text, len(ids))
    assert pieces.text == text
    assert len(pieces.spans) == len(ids)
    _check(pieces)


def test_a_text_without_any_token_has_no_pieces() -> None:
    assert encode_text(TOKENIZER, ["\x16"])[0] == []
    assert pieces_of_text(TOKENIZER, "\x16", 0) == Pieces("", [], [])


@given(TEXTS)
@example(HARD)
@example("�")
def test_ids_of_a_text_decode_to_pieces_of_it(text: str) -> None:
    ids = encode_text(TOKENIZER, [text])[0]
    assume(TOKENIZER.decode(ids) == text)  # this tokenizer has no token for some rare bytes, such as F1
    pieces = pieces_of_ids(TOKENIZER, ids)
    assert pieces.text == text
    _check(pieces)


@given(st.lists(st.integers(0, 49151), min_size=1, max_size=30))
def test_any_ids_have_pieces(ids: list[int]) -> None:
    pieces = pieces_of_ids(TOKENIZER, ids)
    assert len(pieces.spans) == len(ids)
    _check(pieces)


@given(TEXTS, st.data())
def test_a_cut_response_shows_what_is_left_of_it(text: str, data: st.DataObject) -> None:
    ids = encode_text(TOKENIZER, [text])[0]
    kept = data.draw(st.integers(1, len(ids)))
    pieces = pieces_of_text(TOKENIZER, text, kept)
    assert text.startswith(pieces.text)
    assert len(pieces.spans) == kept
    _check(pieces)


def test_tokens_of_one_character_share_its_span() -> None:
    text = "h 👧!"
    ids = encode_text(TOKENIZER, [text])[0]
    assert [TOKENIZER.convert_ids_to_tokens(i) for i in ids] == ["h", "ĠðŁ", "ĳ", "§", "!"]
    for pieces in (pieces_of_text(TOKENIZER, text, 5), pieces_of_ids(TOKENIZER, ids)):
        assert pieces.texts == ["h", " 👧", "", "", "!"]
        assert pieces.spans[0] == (0, 1)
        assert pieces.spans[1] == (1, 3)
        assert {end for _, end in pieces.spans[1:4]} == {3}
        assert pieces.spans[4] == (3, 4)


def test_white_space_left_out_of_spans_belongs_to_the_token_behind_it() -> None:
    pieces = Pieces.of("a  bc", [(0, 1), (3, 4), (4, 5)])
    assert pieces.spans == [(0, 1), (1, 4), (4, 5)]
    assert pieces.texts == ["a", "  b", "c"]


@pytest.mark.parametrize("special", [0, 1, 2])
def test_special_tokens_have_no_text(special: int) -> None:
    pieces = pieces_of_ids(TOKENIZER, [81, special, 82])
    assert pieces.texts == ["a", "", "b"]
    assert pieces.spans == [(0, 1), (1, 1), (1, 2)]
