"""Lists of integers: reordering, splitting, neighbours."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "lists"


def _ints(rng: Random, low: int = -5, high: int = 9, longest: int = 7) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(0, longest))]


# fmt: off
PROBLEMS = [
    problem(
        "negatives_first",
        "Write a function `negatives_first(xs)` that returns a new list with all negative numbers of `xs` in "
        "front of the others; within both groups the order stays as in `xs`.",
        references=("""
            def negatives_first(xs):
                front = []
                back = []
                for x in xs:
                    if x < 0:
                        front.append(x)
                    else:
                        back.append(x)
                return front + back
        """, """
            def negatives_first(xs):
                return sorted(xs, key=lambda x: x >= 0)
        """),
        cases=(("[]", "[]"), ("[0]", "[0]"), ("[1, -1]", "[-1, 1]"),
               ("[3, -2, 0, -5, 1]", "[-2, -5, 3, 0, 1]"), ("[-1, -2]", "[-1, -2]"),
               ("[2, 1, 0]", "[2, 1, 0]"), ("[0, -1, 1]", "[-1, 0, 1]")),
        generate=lambda rng: (_ints(rng),),
        difficulty=1,
    ),
    problem(
        "chunk_sums",
        "Write a function `chunk_sums(xs, size)` that cuts `xs` into consecutive pieces of `size` elements "
        "(at least 1; the last piece may be shorter) and returns the list of their sums.",
        references=("""
            def chunk_sums(xs, size):
                sums = []
                for i, x in enumerate(xs):
                    if i % size == 0:
                        sums.append(0)
                    sums[-1] += x
                return sums
        """, """
            def chunk_sums(xs, size):
                return [sum(xs[i : i + size]) for i in range(0, len(xs), size)]
        """),
        cases=(("[], 3", "[]"), ("[4], 1", "[4]"), ("[1, 2, 3, 4], 2", "[3, 7]"),
               ("[1, 2, 3, 4, 5], 2", "[3, 7, 5]"), ("[1, 2, 3], 5", "[6]"), ("[5, -5, 2, 1], 3", "[2, 1]"),
               ("[1, 2], 1", "[1, 2]")),
        generate=lambda rng: (_ints(rng), rng.randint(1, 4)),
        difficulty=2,
    ),
    problem(
        "suffix_minimums",
        "Write a function `suffix_minimums(xs)` whose result has at each position the smallest element of "
        "`xs` from this position to the end.",
        references=("""
            def suffix_minimums(xs):
                out = list(xs)
                for i in range(len(xs) - 2, -1, -1):
                    if out[i + 1] < out[i]:
                        out[i] = out[i + 1]
                return out
        """, """
            def suffix_minimums(xs):
                return [min(xs[i:]) for i in range(len(xs))]
        """, """
            from itertools import accumulate

            def suffix_minimums(xs):
                return list(accumulate(reversed(xs), min))[::-1]
        """),
        cases=(("[]", "[]"), ("[3]", "[3]"), ("[1, 2]", "[1, 2]"), ("[2, 1]", "[1, 1]"),
               ("[4, 2, 5, 3, 6]", "[2, 2, 3, 3, 6]"), ("[0, -1, 7, -1]", "[-1, -1, -1, -1]")),
        generate=lambda rng: (_ints(rng),),
        difficulty=2,
    ),
    problem(
        "count_summits",
        "Write a function `count_summits(xs)` that counts the elements which are strictly larger than both "
        "of their neighbours; the first and the last element never count.",
        references=("""
            def count_summits(xs):
                count = 0
                for i in range(1, len(xs) - 1):
                    if xs[i] > xs[i - 1] and xs[i] > xs[i + 1]:
                        count += 1
                return count
        """, """
            def count_summits(xs):
                return sum(b > max(a, c) for a, b, c in zip(xs, xs[1:], xs[2:]))
        """),
        cases=(("[]", "0"), ("[5]", "0"), ("[1, 2]", "0"), ("[1, 3, 2]", "1"), ("[1, 3, 3]", "0"),
               ("[3, 3, 1]", "0"), ("[1, 2, 1, 2, 1]", "2"), ("[9, 1, 9]", "0"),
               ("[0, 5, 1, 4, 0, 3, 2]", "3"), ("[1, 2, 3, 0]", "1"), ("[4, 2, 2, 0]", "0"),
               ("[1, 4, 2, 3]", "1")),
        generate=lambda rng: (_ints(rng, 0, 4, 9),),
        difficulty=2,
    ),
    problem(
        "drop_every",
        "Write a function `drop_every(xs, k)` that returns `xs` without the elements at the 1-based "
        "positions `k`, 2`k`, 3`k` and so on; `k` is at least 1.",
        references=("""
            def drop_every(xs, k):
                kept = []
                position = 0
                for x in xs:
                    position += 1
                    if position == k:
                        position = 0
                    else:
                        kept.append(x)
                return kept
        """, """
            def drop_every(xs, k):
                return [x for i, x in enumerate(xs, 1) if i % k != 0]
        """, """
            def drop_every(xs, k):
                kept = list(xs)
                del kept[k - 1 :: k]
                return kept
        """),
        cases=(("[], 2", "[]"), ("[1, 2, 3], 1", "[]"), ("[1, 2, 3, 4], 2", "[1, 3]"),
               ("[5, 6, 7], 3", "[5, 6]"), ("[1, 2], 3", "[1, 2]"),
               ("[1, 2, 3, 4, 5, 6, 7], 3", "[1, 2, 4, 5, 7]")),
        generate=lambda rng: (_ints(rng, longest=9), rng.randint(1, 4)),
        difficulty=2,
    ),
    problem(
        "padded_sum",
        "Write a function `padded_sum(a, b)` that adds the lists `a` and `b` position by position, as if the "
        "shorter one were filled up with zeros at its end.",
        references=("""
            def padded_sum(a, b):
                out = []
                for i in range(max(len(a), len(b))):
                    total = 0
                    if i < len(a):
                        total += a[i]
                    if i < len(b):
                        total += b[i]
                    out.append(total)
                return out
        """, """
            from itertools import zip_longest

            def padded_sum(a, b):
                return [x + y for x, y in zip_longest(a, b, fillvalue=0)]
        """, """
            def padded_sum(a, b):
                n = min(len(a), len(b))
                return [x + y for x, y in zip(a, b)] + a[n:] + b[n:]
        """),
        cases=(("[], []", "[]"), ("[1], []", "[1]"), ("[], [2, 3]", "[2, 3]"), ("[1, 2], [3, 4]", "[4, 6]"),
               ("[1, 2, 3], [-1]", "[0, 2, 3]"), ("[5], [5, 6, 7]", "[10, 6, 7]")),
        generate=lambda rng: (_ints(rng, longest=5), _ints(rng, longest=5)),
        difficulty=1,
    ),
    problem(
        "split_at",
        "Write a function `split_at(xs, mark)` that cuts the list `xs` at every element equal to `mark` and "
        "returns the list of pieces, without the marks; pieces may be empty, and an empty `xs` gives [[]].",
        references=("""
            def split_at(xs, mark):
                pieces = [[]]
                for x in xs:
                    if x == mark:
                        pieces.append([])
                    else:
                        pieces[-1].append(x)
                return pieces
        """, """
            def split_at(xs, mark):
                if mark not in xs:
                    return [list(xs)]
                i = xs.index(mark)
                return [xs[:i]] + split_at(xs[i + 1 :], mark)
        """),
        cases=(("[], 0", "[[]]"), ("[0], 0", "[[], []]"), ("[1, 2], 0", "[[1, 2]]"),
               ("[1, 0, 2], 0", "[[1], [2]]"), ("[0, 1, 0, 0, 2], 0", "[[], [1], [], [2]]"),
               ("[3, 4, 3], 4", "[[3], [3]]")),
        generate=lambda rng: (_ints(rng, 0, 3), rng.randint(0, 3)),
        difficulty=3,
    ),
    problem(
        "outside_in",
        "Write a function `outside_in(xs)` that returns the elements of `xs` in the order first, last, "
        "second, last but one and so on, each exactly once.",
        references=("""
            def outside_in(xs):
                out = []
                left = 0
                right = len(xs) - 1
                while left < right:
                    out += [xs[left], xs[right]]
                    left += 1
                    right -= 1
                if left == right:
                    out.append(xs[left])
                return out
        """, """
            def outside_in(xs):
                if not xs:
                    return []
                return [xs[0]] + outside_in(xs[1:][::-1])
        """),
        cases=(("[]", "[]"), ("[1]", "[1]"), ("[1, 2]", "[1, 2]"), ("[1, 2, 3]", "[1, 3, 2]"),
               ("[1, 2, 3, 4]", "[1, 4, 2, 3]"), ("[5, 4, 3, 2, 1]", "[5, 1, 4, 2, 3]")),
        generate=lambda rng: (_ints(rng),),
        difficulty=3,
    ),
    problem(
        "last_place",
        "Write a function `last_place(xs, target)` that returns the largest index at which `target` stands "
        "in the list `xs`, or -1 if it does not occur.",
        references=("""
            def last_place(xs, target):
                place = -1
                for i in range(len(xs)):
                    if xs[i] == target:
                        place = i
                return place
        """, """
            def last_place(xs, target):
                i = len(xs) - 1
                while i >= 0 and xs[i] != target:
                    i -= 1
                return i
        """, """
            def last_place(xs, target):
                return max((i for i, x in enumerate(xs) if x == target), default=-1)
        """),
        cases=(("[], 1", "-1"), ("[1], 1", "0"), ("[1], 2", "-1"), ("[1, 2, 1, 3], 1", "2"),
               ("[4, 4, 4], 4", "2"), ("[7, 8, 9], 7", "0"), ("[7, 8, 9], 9", "2")),
        generate=lambda rng: (_ints(rng, 0, 3), rng.randint(0, 3)),
        difficulty=1,
    ),
]
