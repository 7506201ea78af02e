"""The one formatter that every program of the data set goes through, so that layout says nothing about the label."""

from __future__ import annotations

import ast
import io
import tokenize

_OPENING, _CLOSING = "([{", ")]}"


def format_program(tree: ast.Module) -> str:
    """The program as `ast.unparse` writes it, without the parentheses that nobody writes.

    `sum((x for x in y))` becomes `sum(x for x in y)`, and `a, b = (b, a)` becomes `a, b = b, a`.
    """
    text = ast.unparse(ast.fix_missing_locations(tree)) + "\n"
    if "((" not in text and "= (" not in text:
        return text
    redundant = _redundant(text)
    if not redundant:
        return text
    plain = "".join(character for position, character in enumerate(text) if position not in redundant)
    return plain if ast.dump(ast.parse(plain)) == ast.dump(ast.parse(text)) else text


def _redundant(text: str) -> set[int]:
    """Positions of the parentheses around a call's only generator, and around a tuple that is a whole right side."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    positions = [starts[token.start[0] - 1] + token.start[1] for token in tokens]
    found: set[int] = set()
    stack: list[tuple[int, list[str]]] = []  # (opening token, every `for` and comma directly inside)
    for number, token in enumerate(tokens):
        if token.string in _CLOSING and token.type == tokenize.OP:
            opening, inside = stack.pop()
            before, after = tokens[opening - 1], tokens[number + 1]
            generator = (
                before.string == "("
                and after.string == ")"
                and inside[:1] == ["for"]
                and tokens[opening - 2].type == tokenize.NAME
            )
            right_side = before.string == "=" and after.type == tokenize.NEWLINE and not stack
            several = "," in inside and "for" not in inside and tokens[number - 1].string != ","
            if token.string == ")" and (generator or (right_side and several)):
                found |= {positions[opening], positions[number]}
        elif token.string in _OPENING and token.type == tokenize.OP:
            stack.append((number, []))
        elif stack and (token.string in ("for", ",")):
            stack[-1][1].append(token.string)
    return found
