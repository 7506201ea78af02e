"""Reading small notations: brackets, arithmetic, lists of settings."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "parsing"


def _text(rng: Random, letters: str, longest: int = 8) -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randint(0, longest)))


def _numbers(rng: Random, low: int = 0, high: int = 20, longest: int = 5) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(1, longest))]


def _sum_text(rng: Random) -> str:
    return "".join(f"{n}{rng.choice('+-')}" for n in _numbers(rng)) + str(rng.randint(0, 9))


def _release(rng: Random) -> str:
    return ".".join(map(str, _numbers(rng, 0, 2, 3)))


def _settings(rng: Random) -> str:
    return ";".join(f"{rng.choice('abc')}={rng.randint(-9, 20)}" for _ in range(rng.randint(0, 4)))


def _nested(rng: Random, depth: int = 2) -> str:
    if depth == 0 or rng.random() < 0.1:
        return rng.choice(("", "x"))
    return ",".join(rng.choice(("x", f"f({_nested(rng, depth - 1)})")) for _ in range(rng.randint(1, 3)))


def _postfix(rng: Random) -> list[str]:
    tokens = [str(rng.randint(0, 9))]
    for _ in range(rng.randint(0, 3)):
        more, sign = str(rng.randint(0, 9)), rng.choice("+-*")
        tokens = [*tokens, more, sign] if rng.random() < 0.6 else [more, *tokens, sign]
    return tokens


# fmt: off
PROBLEMS = [
    problem(
        "loose_brackets",
        "Write a function `loose_brackets(s)` that returns how many characters of `s`, which consists of '(' "
        "and ')' only, have no partner when brackets are matched in the usual way.",
        references=("""
            def loose_brackets(s):
                open_count = 0
                loose = 0
                for c in s:
                    if c == "(":
                        open_count += 1
                    elif open_count > 0:
                        open_count -= 1
                    else:
                        loose += 1
                return loose + open_count
        """, """
            def loose_brackets(s):
                while "()" in s:
                    s = s.replace("()", "")
                return len(s)
        """),
        cases=(("''", "0"), ("'('", "1"), ("')'", "1"), ("'()'", "0"), ("')('", "2"), ("'(()'", "1"),
               ("'())(()'", "2"), ("'((()))'", "0"), ("')))'", "3"), ("'(((('", "4")),
        generate=lambda rng: (_text(rng, "()", 9),),
        difficulty=2,
    ),
    problem(
        "closing_place",
        "Write a function `closing_place(s, start)` for a string `s` with '(' at index `start`: it returns "
        "the index of the ')' that closes this bracket, or -1 if it is never closed; other characters are "
        "ignored.",
        references=("""
            def closing_place(s, start):
                depth = 0
                for i in range(start, len(s)):
                    if s[i] == "(":
                        depth += 1
                    elif s[i] == ")":
                        depth -= 1
                        if depth == 0:
                            return i
                return -1
        """, """
            def closing_place(s, start):
                for end in range(start + 1, len(s) + 1):
                    part = s[start:end]
                    if part.count("(") == part.count(")"):
                        return end - 1
                return -1
        """),
        cases=(("'()', 0", "1"), ("'(', 0", "-1"), ("'(a(b)c)', 0", "6"), ("'(a(b)c)', 2", "4"),
               ("'((x)', 0", "-1"), ("'((x)', 1", "3"), ("')()(())', 3", "6"), ("'x(y)z)', 1", "3")),
        generate=lambda rng: (f"(({_text(rng, '(()))a')}", rng.randint(0, 1)),
        difficulty=3,
    ),
    problem(
        "unfold_counts",
        "The string `s` consists of pairs of a letter and one digit 0 to 9. Write a function "
        "`unfold_counts(s)` that writes each letter as often as its digit says: 'a3b0c1' becomes 'aaac', and "
        "'' stays ''.",
        references=("""
            def unfold_counts(s):
                out = ""
                i = 0
                while i < len(s):
                    out += s[i] * int(s[i + 1])
                    i += 2
                return out
        """, """
            def unfold_counts(s):
                return "".join(c * int(n) for c, n in zip(s[::2], s[1::2]))
        """, """
            def unfold_counts(s):
                out = letter = ""
                for c in s:
                    if c.isdigit():
                        out += letter * int(c)
                    letter = c
                return out
        """),
        cases=(("''", "''"), ("'a1'", "'a'"), ("'z0'", "''"), ("'a2b3'", "'aabbb'"), ("'x1y0x2'", "'xxx'"),
               ("'q9'", "'qqqqqqqqq'"), ("'a3b0c1'", "'aaac'")),
        generate=lambda rng: ("".join(rng.choice("abc") + str(n) for n in _numbers(rng, 0, 4)),),
        difficulty=1,
    ),
    problem(
        "numbers_inside",
        "Write a function `numbers_inside(s)` that returns the list of all numbers in the text `s`, where a "
        "number is a maximal block of digits 0 to 9 and is returned as an integer; signs are ignored.",
        references=("""
            def numbers_inside(s):
                numbers = []
                block = ""
                for c in s + " ":
                    if "0" <= c <= "9":
                        block += c
                    elif block:
                        numbers.append(int(block))
                        block = ""
                return numbers
        """, """
            import re

            def numbers_inside(s):
                return [int(block) for block in re.findall("[0-9]+", s)]
        """, """
            def numbers_inside(s):
                spaced = "".join(c if c in "0123456789" else " " for c in s)
                return list(map(int, spaced.split()))
        """),
        cases=(("''", "[]"), ("'abc'", "[]"), ("'7'", "[7]"), ("'a12b3'", "[12, 3]"),
               ("'-5 and 006'", "[5, 6]"), ("'10,20,30x'", "[10, 20, 30]"), ("'0a'", "[0]"),
               ("'v9.45/:8'", "[9, 45, 8]")),
        generate=lambda rng: (_text(rng, "0129ab -", 10),),
        difficulty=2,
    ),
    problem(
        "plus_minus_value",
        "Write a function `plus_minus_value(s)` that computes a sum such as '12-3+40': non-negative integers "
        "joined by '+' and '-', without spaces and without a leading sign, worked out from left to right.",
        references=("""
            def plus_minus_value(s):
                total = 0
                sign = 1
                number = 0
                for c in s:
                    if c in "+-":
                        total += sign * number
                        sign = 1 if c == "+" else -1
                        number = 0
                    else:
                        number = number * 10 + int(c)
                return total + sign * number
        """, """
            def plus_minus_value(s):
                return sum(int(part) for part in s.replace("-", "+-").split("+"))
        """),
        cases=(("'0'", "0"), ("'42'", "42"), ("'1+2'", "3"), ("'5-8'", "-3"), ("'10-2-3'", "5"),
               ("'12-3+40'", "49"), ("'7+0-100'", "-93")),
        generate=lambda rng: (_sum_text(rng),),
        difficulty=3,
    ),
    problem(
        "read_settings",
        "Write a function `read_settings(s)` that turns text such as 'a=1;b=-2' into a dict from names to "
        "integers; if a name comes twice the later value wins, and '' gives an empty dict.",
        references=("""
            def read_settings(s):
                settings = {}
                for part in s.split(";"):
                    if part:
                        name, value = part.split("=")
                        settings[name] = int(value)
                return settings
        """, """
            def read_settings(s):
                if not s:
                    return {}
                pairs = (part.partition("=") for part in s.split(";"))
                return {name: int(value) for name, _, value in pairs}
        """),
        cases=(("''", "{}"), ("'a=1'", "{'a': 1}"), ("'a=1;b=-2'", "{'a': 1, 'b': -2}"),
               ("'x=5;x=7'", "{'x': 7}"), ("'n=0;long=12'", "{'n': 0, 'long': 12}"),
               ("'p=3;q=4;p=-1'", "{'p': -1, 'q': 4}")),
        generate=lambda rng: (_settings(rng),),
        difficulty=2,
    ),
    problem(
        "outer_pieces",
        "Write a function `outer_pieces(s)` that splits `s` at the commas outside of all brackets; `s` holds "
        "correctly nested '(' and ')'. The pieces keep their characters, may be empty, and '' gives [''].",
        references=("""
            def outer_pieces(s):
                pieces = [""]
                depth = 0
                for c in s:
                    depth += (c == "(") - (c == ")")
                    if c == "," and depth == 0:
                        pieces.append("")
                    else:
                        pieces[-1] += c
                return pieces
        """, """
            def outer_pieces(s):
                for i, c in enumerate(s):
                    if c == "," and s[:i].count("(") == s[:i].count(")"):
                        return [s[:i]] + outer_pieces(s[i + 1 :])
                return [s]
        """),
        cases=(("''", "['']"), ("'a'", "['a']"), ("'a,b'", "['a', 'b']"), ("'f(a,b),c'", "['f(a,b)', 'c']"),
               ("','", "['', '']"), ("'(,(,),),x,'", "['(,(,),)', 'x', '']"),
               ("'f(g(x),y)'", "['f(g(x),y)']")),
        generate=lambda rng: (_nested(rng),),
        difficulty=4,
    ),
    problem(
        "postfix_value",
        "Write a function `postfix_value(tokens)` that evaluates a valid calculation in postfix order: the "
        "tokens are non-negative integers as strings and '+', '-', '*', so that ['7', '2', '-'] means 7 "
        "minus 2.",
        references=("""
            def postfix_value(tokens):
                stack = []
                for token in tokens:
                    if token.isdigit():
                        stack.append(int(token))
                        continue
                    b = stack.pop()
                    if token == "+":
                        stack[-1] += b
                    elif token == "-":
                        stack[-1] -= b
                    else:
                        stack[-1] *= b
                return stack[0]
        """, """
            def postfix_value(tokens):
                rest = list(tokens)

                def value():
                    token = rest.pop()
                    if token.isdigit():
                        return int(token)
                    b, a = value(), value()
                    return {"+": a + b, "-": a - b, "*": a * b}[token]

                return value()
        """),
        cases=(("['4']", "4"), ("['7', '2', '-']", "5"), ("['2', '3', '+']", "5"),
               ("['2', '3', '4', '*', '-']", "-10"), ("['1', '2', '-', '5', '*']", "-5"),
               ("['6', '0', '*', '8', '+']", "8"), ("['2', '3', '4', '+', '*']", "14"),
               ("['9', '4', '2', '-', '-', '3', '*']", "21")),
        generate=lambda rng: (_postfix(rng),),
        difficulty=5,
    ),
    problem(
        "compare_releases",
        "Releases are numbered like '2.10.3'. Write a function `compare_releases(a, b)` that compares two "
        "such strings number by number and returns -1, 0 or 1 if `a` is older, equal or newer; missing "
        "numbers at the end count as 0.",
        references=("""
            def compare_releases(a, b):
                xs = [int(part) for part in a.split(".")]
                ys = [int(part) for part in b.split(".")]
                for i in range(max(len(xs), len(ys))):
                    x = xs[i] if i < len(xs) else 0
                    y = ys[i] if i < len(ys) else 0
                    if x != y:
                        return -1 if x < y else 1
                return 0
        """, """
            from itertools import zip_longest

            def compare_releases(a, b):
                pairs = list(zip_longest(a.split("."), b.split("."), fillvalue="0"))
                xs = [int(x) for x, _ in pairs]
                ys = [int(y) for _, y in pairs]
                return (xs > ys) - (xs < ys)
        """),
        cases=(("'1', '1'", "0"), ("'1', '2'", "-1"), ("'2.10', '2.9'", "1"), ("'1.0.0', '1'", "0"),
               ("'1', '1.0.1'", "-1"), ("'3.2.1', '3.2'", "1"), ("'0.9.9', '1.0'", "-1"),
               ("'2.1', '2.0.5'", "1"), ("'1', '1.1'", "-1"), ("'0', '0.0'", "0"), ("'0.0', '0'", "0")),
        generate=lambda rng: (_release(rng), _release(rng)),
        difficulty=3,
    ),
]
