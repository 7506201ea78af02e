from __future__ import annotations

import ast

import pytest

from wmtp_ray.data.sources.mini.formatter import format_program
from wmtp_ray.data.sources.mini.span import changed_span


@pytest.mark.parametrize(
    ("written", "formatted"),
    [
        ("x = sum(a   for a in b) # note", "x = sum(a for a in b)"),
        ("x = sum((a - b for a, b in c))", "x = sum(a - b for a, b in c)"),
        ("x = max((a for a in b), default=0)", "x = max((a for a in b), default=0)"),
        ("(a, b) = (b, (a, 1))", "a, b = b, (a, 1)"),
        ("x = (1,)", "x = (1,)"),
        ("x = ()", "x = ()"),
        ("x = (a, b)[0]", "x = (a, b)[0]"),
        ("x = f((1, 2))", "x = f((1, 2))"),
        ("x = (a + b)", "x = a + b"),
        ('x = "(("', "x = '(('"),
    ],
)
def test_format(written: str, formatted: str):
    assert format_program(ast.parse(written)) == formatted + "\n"
    assert format_program(ast.parse(formatted)) == formatted + "\n"


@pytest.mark.parametrize(
    ("original", "mutant", "changed"),
    [
        ("return a + b\n", "return a - b\n", "-"),
        ("return a - b\n", "return b - a\n", "b - a"),
        ("x = 1\ny = 2\n", "x = 1\ny = 2 + 1\n", "+ 1"),
        ("x = 1\nx += 2\ny = x\n", "x = 1\ny = x\n", "y"),  # the first token that comes too early
        ("a = 1\nb = 2\n", "a = 1\n", "\n"),  # the text ends too early
        ("for x in a:\n    b += x\n    c += 1\n", "for x in a:\n    b += x\nc += 1\n", "c += 1"),
        (
            "for x in a:\n    b += x\nreturn b\n",
            "for x in a:\n    b += x\n    return b\nreturn b\n",
            "return b\n    ",
        ),
        ("i += 1\n", "i += 1\ni += 1\n", "i += 1\n"),
        ("n = 10\n", "n = 100\n", "100"),
    ],
)
def test_span_covers_what_changed(original: str, mutant: str, changed: str):
    start, end = changed_span(original, mutant)
    assert mutant[start:end].strip() == changed.strip()
    assert start < end


def test_equal_programs_have_no_span():
    with pytest.raises(ValueError, match="same tokens"):
        changed_span("x = 1\n", "x  = 1\n")
