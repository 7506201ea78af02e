"""Number sequences: recurrences, steps until a goal, runs within lists."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "sequences"


def _ints(rng: Random, high: int = 5, longest: int = 8) -> list[int]:
    return [rng.randint(0, high) for _ in range(rng.randint(0, longest))]


# fmt: off
PROBLEMS = [
    problem(
        "hailstone_peak",
        "From a positive integer, step to half of it if it is even, else to three times it plus one. Write a "
        "function `hailstone_peak(n)` that returns the largest number met from `n` (included) until 1 is "
        "reached.",
        references=("""
            def hailstone_peak(n):
                peak = n
                while n != 1:
                    if n % 2 == 0:
                        n //= 2
                    else:
                        n = 3 * n + 1
                    if n > peak:
                        peak = n
                return peak
        """, """
            def hailstone_peak(n):
                if n == 1:
                    return 1
                return max(n, hailstone_peak(3 * n + 1 if n % 2 else n // 2))
        """),
        cases=(("1", "1"), ("2", "2"), ("3", "16"), ("4", "4"), ("6", "16"), ("7", "52"), ("11", "52"),
               ("16", "16")),
        generate=lambda rng: (rng.randint(1, 26),),
        difficulty=2,
    ),
    problem(
        "doubled_sum_term",
        "A sequence begins 0, 1 and each further term is the term before it plus twice the term before that: "
        "0, 1, 1, 3, 5, ... Write a function `doubled_sum_term(n)` that returns its term number `n`, counted "
        "from 0.",
        references=("""
            def doubled_sum_term(n):
                a = 0
                b = 1
                for _ in range(n):
                    a, b = b, b + 2 * a
                return a
        """, """
            def doubled_sum_term(n):
                if n < 2:
                    return n
                return doubled_sum_term(n - 1) + 2 * doubled_sum_term(n - 2)
        """, """
            def doubled_sum_term(n):
                return (2**n - (-1) ** n) // 3
        """),
        cases=(("0", "0"), ("1", "1"), ("2", "1"), ("3", "3"), ("4", "5"), ("5", "11"), ("8", "85"),
               ("10", "341")),
        generate=lambda rng: (rng.randint(0, 13),),
        difficulty=2,
    ),
    problem(
        "one_or_three_steps",
        "Write a function `one_or_three_steps(n)` that counts the ways to climb `n` stairs (`n` "
        "non-negative) with steps of 1 or 3 stairs, where the order of the steps matters; 0 stairs can be "
        "climbed in one way.",
        references=("""
            def one_or_three_steps(n):
                ways = [1, 1, 1]
                for i in range(3, n + 1):
                    ways.append(ways[i - 1] + ways[i - 3])
                return ways[n]
        """, """
            def one_or_three_steps(n):
                if n < 3:
                    return 1
                return one_or_three_steps(n - 1) + one_or_three_steps(n - 3)
        """, """
            from math import comb

            def one_or_three_steps(n):
                return sum(comb(n - 2 * k, k) for k in range(n // 3 + 1))
        """),
        cases=(("0", "1"), ("1", "1"), ("2", "1"), ("3", "2"), ("4", "3"), ("6", "6"), ("7", "9"),
               ("10", "28")),
        generate=lambda rng: (rng.randint(0, 16),),
        difficulty=3,
    ),
    problem(
        "say_runs",
        "Write a function `say_runs(s)` that reads the digit string `s` aloud: each block of equal digits "
        "becomes its length followed by the digit, so '1121' becomes '211211'; '' stays ''.",
        references=("""
            def say_runs(s):
                out = ""
                run = 0
                for i, c in enumerate(s):
                    run += 1
                    if i + 1 == len(s) or s[i + 1] != c:
                        out += str(run) + c
                        run = 0
                return out
        """, """
            from itertools import groupby

            def say_runs(s):
                return "".join(f"{len(list(g))}{c}" for c, g in groupby(s))
        """, """
            def say_runs(s):
                if not s:
                    return ""
                rest = s.lstrip(s[0])
                return str(len(s) - len(rest)) + s[0] + say_runs(rest)
        """),
        cases=(("''", "''"), ("'1'", "'11'"), ("'11'", "'21'"), ("'1211'", "'111221'"), ("'555'", "'35'"),
               ("'1121'", "'211211'"), ("'00100'", "'201120'")),
        generate=lambda rng: ("".join(rng.choice("12") for _ in range(rng.randint(0, 9))),),
        difficulty=3,
    ),
    problem(
        "triangle_row",
        "Stones are laid in rows of 1, 2, 3, ... stones. Write a function `triangle_row(n)` that tells how "
        "many rows `n` stones fill exactly, or -1 if the last row stays incomplete; `n` is non-negative.",
        references=("""
            def triangle_row(n):
                row = 0
                while n > 0:
                    row += 1
                    n -= row
                return row if n == 0 else -1
        """, """
            from math import isqrt

            def triangle_row(n):
                row = isqrt(2 * n)
                return row if row * (row + 1) == 2 * n else -1
        """),
        cases=(("0", "0"), ("1", "1"), ("2", "-1"), ("3", "2"), ("4", "-1"), ("6", "3"), ("9", "-1"),
               ("10", "4"), ("55", "10")),
        generate=lambda rng: (rng.choice((rng.randint(0, 60), sum(range(rng.randint(1, 12))))),),
        difficulty=2,
    ),
    problem(
        "steady_run",
        "Write a function `steady_run(xs)` that returns the length of the longest block of consecutive "
        "elements of `xs` in which neighbours always differ by the same amount; lists of up to two elements "
        "count as a whole.",
        references=("""
            def steady_run(xs):
                best = run = min(len(xs), 2)
                for i in range(2, len(xs)):
                    if xs[i] - xs[i - 1] == xs[i - 1] - xs[i - 2]:
                        run += 1
                    else:
                        run = 2
                    best = max(best, run)
                return best
        """, """
            from itertools import groupby

            def steady_run(xs):
                steps = [b - a for a, b in zip(xs, xs[1:])]
                runs = [len(list(g)) + 1 for _, g in groupby(steps)]
                return max(runs, default=len(xs))
        """),
        cases=(("[]", "0"), ("[4]", "1"), ("[4, 9]", "2"), ("[3, 3]", "2"), ("[1, 2, 3]", "3"),
               ("[1, 2, 4]", "2"), ("[5, 5, 5, 1]", "3"), ("[1, 3, 5, 4, 3, 2]", "4"),
               ("[0, 1, 3, 5, 7, 8]", "4"), ("[1, 2, 3, 5, 6]", "3")),
        generate=lambda rng: (_ints(rng, 3),),
        difficulty=4,
    ),
    problem(
        "doublings_needed",
        "Write a function `doublings_needed(a, b)` that returns how often the positive integer `a` must be "
        "doubled until it is at least `b`; 0 if it already is.",
        references=("""
            def doublings_needed(a, b):
                times = 0
                while a < b:
                    a *= 2
                    times += 1
                return times
        """, """
            def doublings_needed(a, b):
                return 0 if a >= b else 1 + doublings_needed(2 * a, b)
        """, """
            def doublings_needed(a, b):
                return max(0, ((b - 1) // a).bit_length())
        """),
        cases=(("1, 1", "0"), ("5, 3", "0"), ("1, 2", "1"), ("1, 8", "3"), ("1, 9", "4"), ("3, 24", "3"),
               ("3, 25", "4"), ("7, 8", "1")),
        generate=lambda rng: (rng.randint(1, 9), rng.randint(1, 200)),
        difficulty=1,
    ),
    problem(
        "three_back_terms",
        "A sequence begins 1, 1, 1 and each further term is the sum of the terms two and three places before "
        "it. Write a function `three_back_terms(n)` that returns the list of its first `n` terms (`n` "
        "non-negative).",
        references=("""
            def three_back_terms(n):
                terms = []
                for i in range(n):
                    if i < 3:
                        terms.append(1)
                    else:
                        terms.append(terms[i - 2] + terms[i - 3])
                return terms
        """, """
            def three_back_terms(n):
                a = b = c = 1
                out = []
                while len(out) < n:
                    out.append(a)
                    a, b, c = b, c, a + b
                return out
        """),
        cases=(("0", "[]"), ("1", "[1]"), ("3", "[1, 1, 1]"), ("4", "[1, 1, 1, 2]"),
               ("6", "[1, 1, 1, 2, 2, 3]"), ("9", "[1, 1, 1, 2, 2, 3, 4, 5, 7]")),
        generate=lambda rng: (rng.randint(0, 20),),
        difficulty=2,
    ),
    problem(
        "sums_of_parts",
        "Write a function `sums_of_parts(n, largest)` that counts the ways to write the non-negative integer "
        "`n` as a sum of positive integers not above `largest` (at least 1), order ignored; 0 has one way, "
        "the empty sum.",
        references=("""
            def sums_of_parts(n, largest):
                ways = [1] + [0] * n
                for part in range(1, largest + 1):
                    for total in range(part, n + 1):
                        ways[total] += ways[total - part]
                return ways[n]
        """, """
            def sums_of_parts(n, largest):
                if n == 0:
                    return 1
                if n < 0 or largest == 0:
                    return 0
                return sums_of_parts(n - largest, largest) + sums_of_parts(n, largest - 1)
        """),
        cases=(("0, 1", "1"), ("4, 1", "1"), ("4, 2", "3"), ("4, 4", "5"), ("5, 3", "5"), ("3, 9", "3"),
               ("7, 4", "11"), ("8, 2", "5")),
        generate=lambda rng: (rng.randint(0, 10), rng.randint(1, 6)),
        difficulty=5,
    ),
]
