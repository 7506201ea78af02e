"""Where two programs part: the characters of a mutant that its original does not have there."""

from __future__ import annotations

import io
import tokenize

_INVISIBLE = (tokenize.ENDMARKER, tokenize.ENCODING, tokenize.NL)


def changed_span(original: str, mutant: str) -> tuple[int, int]:
    """The half-open span of characters of `mutant` that covers every token in which it departs from `original`.

    The tokens of both are compared from the left, then from the right: the span holds the mutant's tokens between the
    longest common prefix and the longest common suffix. Read from left to right, the program is still the correct one
    up to the span's first character. Where something was only taken away, the span is the first token that comes too
    early.

        >>> changed_span("return a + b\\n", "return a - b\\n")
        (9, 10)
        >>> changed_span("x = 1\\nx += 2\\ny = x\\n", "x = 1\\ny = x\\n")
        (6, 7)

    Raises:
        ValueError: both texts have the same tokens.
    """
    old, new = _tokens(original), _tokens(mutant)
    old_texts, new_texts = [text for text, _, _ in old], [text for text, _, _ in new]
    if old_texts == new_texts:
        raise ValueError(f"the programs have the same tokens: {mutant[:80]!r}")
    shorter = min(len(old), len(new))
    prefix = next((i for i in range(shorter) if old_texts[i] != new_texts[i]), shorter)
    suffix = 0
    while suffix < shorter - prefix and old_texts[-1 - suffix] == new_texts[-1 - suffix]:
        suffix += 1
    last = max(len(new) - suffix, prefix + 1)
    visible = [(start, end) for text, start, end in new[prefix:last] if end > start and text != "NEWLINE"]
    if not visible:  # it shows at the token that follows, or at the end of the text
        following = [(start, end) for _, start, end in new[prefix:] if end > start]
        visible = following[:1] or [(len(mutant) - 1, len(mutant))]
    return visible[0][0], visible[-1][1]


def _tokens(text: str) -> list[tuple[str, int, int]]:
    """(text, first character, character after the last) of every token; INDENT and DEDENT are empty but have a name."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[tuple[str, int, int]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _INVISIBLE:
            continue
        start = starts[token.start[0] - 1] + token.start[1]
        if token.type in (tokenize.INDENT, tokenize.DEDENT):
            end = starts[token.end[0] - 1] + token.end[1]
            found.append((tokenize.tok_name[token.type], end, end))
        elif token.type == tokenize.NEWLINE:
            found.append(("NEWLINE", start, start + 1))
        else:
            found.append((token.string, start, start + len(token.string)))
    return found
