"""Sets of values and pairs of elements."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "pairs"


def _ints(rng: Random, low: int = 0, high: int = 8, longest: int = 7) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(0, longest))]


# fmt: off
PROBLEMS = [
    problem(
        "pairs_reaching",
        "Write a function `pairs_reaching(xs, target)` that counts the pairs of positions i < j for which "
        "the sum of the two elements of `xs` is exactly `target`.",
        references=("""
            def pairs_reaching(xs, target):
                count = 0
                for i in range(len(xs)):
                    for j in range(i):
                        if xs[i] + xs[j] == target:
                            count += 1
                return count
        """, """
            from itertools import combinations

            def pairs_reaching(xs, target):
                return sum(a + b == target for a, b in combinations(xs, 2))
        """, """
            def pairs_reaching(xs, target):
                count = 0
                seen = {}
                for x in xs:
                    count += seen.get(target - x, 0)
                    seen[x] = seen.get(x, 0) + 1
                return count
        """),
        cases=(("[], 0", "0"), ("[4], 8", "0"), ("[4, 4], 8", "1"), ("[1, 2, 3, 4], 5", "2"),
               ("[2, 2, 2], 4", "3"), ("[0, 0, 5], 0", "1"), ("[-1, 1, 2], 0", "1"), ("[1, 2], 9", "0"),
               ("[3, 1, 3, 5, 3], 6", "4")),
        generate=lambda rng: (_ints(rng, -2, 5), rng.randint(-2, 8)),
        difficulty=2,
    ),
    problem(
        "on_one_side",
        "Write a function `on_one_side(a, b)` that returns the ascending list of all values that occur in "
        "exactly one of the lists `a` and `b`, each value once.",
        references=("""
            def on_one_side(a, b):
                out = []
                for x in sorted(a + b):
                    if (x in a) != (x in b) and x not in out:
                        out.append(x)
                return out
        """, """
            def on_one_side(a, b):
                return sorted(set(a) ^ set(b))
        """),
        cases=(("[], []", "[]"), ("[1], []", "[1]"), ("[], [2, 2]", "[2]"), ("[1, 2], [2, 3]", "[1, 3]"),
               ("[5, 5], [5]", "[]"), ("[9, 4, 7], [1, 4]", "[1, 7, 9]"), ("[3, 1, 3], [2]", "[1, 2, 3]")),
        generate=lambda rng: (_ints(rng, longest=5), _ints(rng, longest=5)),
        difficulty=1,
    ),
    problem(
        "tightest_gap",
        "Write a function `tightest_gap(xs)` that returns the smallest difference greater than zero between "
        "any two elements of `xs`, or None if no two elements differ.",
        references=("""
            def tightest_gap(xs):
                best = None
                for x in xs:
                    for y in xs:
                        if x > y and (best is None or x - y < best):
                            best = x - y
                return best
        """, """
            def tightest_gap(xs):
                values = sorted(set(xs))
                return min((b - a for a, b in zip(values, values[1:])), default=None)
        """),
        cases=(("[]", "None"), ("[3]", "None"), ("[3, 3]", "None"), ("[3, 5]", "2"), ("[9, 1, 5]", "4"),
               ("[7, 7, 1, 4]", "3"), ("[-5, 5, 0, 0]", "5"), ("[10, 3, 4]", "1")),
        generate=lambda rng: (_ints(rng, -10, 20, 5),),
        difficulty=3,
    ),
    problem(
        "has_successor",
        "Write a function `has_successor(xs)` that returns the ascending list of the different values x in "
        "`xs` for which x + 1 occurs in `xs` too.",
        references=("""
            def has_successor(xs):
                out = []
                for x in sorted(xs):
                    if x + 1 in xs and x not in out:
                        out.append(x)
                return out
        """, """
            def has_successor(xs):
                values = set(xs)
                return sorted(values & {x - 1 for x in values})
        """),
        cases=(("[]", "[]"), ("[1]", "[]"), ("[1, 2]", "[1]"), ("[2, 1, 1]", "[1]"), ("[4, 3, 2]", "[2, 3]"),
               ("[5, 7, 9]", "[]"), ("[0, -1, 8, 9, 0]", "[-1, 8]")),
        generate=lambda rng: (_ints(rng),),
        difficulty=2,
    ),
    problem(
        "longest_chain",
        "Write a function `longest_chain(xs)` that returns the largest k such that some k consecutive "
        "integers all occur in `xs`, in any order; 0 for an empty list.",
        references=("""
            def longest_chain(xs):
                best = 0
                for x in xs:
                    length = 1
                    while x + length in xs:
                        length += 1
                    best = max(best, length)
                return best
        """, """
            def longest_chain(xs):
                best = 0
                lengths = {}
                for x in sorted(xs):
                    lengths[x] = lengths.get(x - 1, 0) + 1
                    best = max(best, lengths[x])
                return best
        """, """
            def longest_chain(xs):
                k = 0
                while any(all(x + i in xs for i in range(k + 1)) for x in xs):
                    k += 1
                return k
        """),
        cases=(("[]", "0"), ("[5]", "1"), ("[5, 5]", "1"), ("[1, 2]", "2"), ("[3, 1, 2]", "3"),
               ("[10, 4, 11, 20, 12, 3]", "3"), ("[0, -1, 1, 1]", "3"), ("[2, 4, 6]", "1"),
               ("[1, 2, 4, 5, 6, 7]", "4")),
        generate=lambda rng: (_ints(rng, 0, 12, 8),),
        difficulty=3,
    ),
    problem(
        "divisible_pairs",
        "Write a function `divisible_pairs(xs)` that counts the ordered pairs of different positions (i, j) "
        "such that the element at i is divisible by the element at j; all elements of `xs` are positive.",
        references=("""
            def divisible_pairs(xs):
                count = 0
                for i in range(len(xs)):
                    for j in range(len(xs)):
                        if i != j and xs[i] % xs[j] == 0:
                            count += 1
                return count
        """, """
            def divisible_pairs(xs):
                return sum(x % y == 0 for x in xs for y in xs) - len(xs)
        """, """
            from itertools import permutations

            def divisible_pairs(xs):
                return len([1 for x, y in permutations(xs, 2) if x % y == 0])
        """),
        cases=(("[]", "0"), ("[3]", "0"), ("[2, 4]", "1"), ("[4, 2]", "1"), ("[3, 3]", "2"), ("[2, 3]", "0"),
               ("[1, 2, 4]", "3"), ("[6, 3, 2, 6]", "6")),
        generate=lambda rng: (_ints(rng, 1, 12, 6),),
        difficulty=2,
    ),
    problem(
        "gaps_in_range",
        "Write a function `gaps_in_range(xs, low, high)` that lists in ascending order the integers from "
        "`low` to `high`, both included, that do not occur in `xs`; the list is empty when low > high.",
        references=("""
            def gaps_in_range(xs, low, high):
                gaps = []
                n = low
                while n <= high:
                    if n not in xs:
                        gaps.append(n)
                    n += 1
                return gaps
        """, """
            def gaps_in_range(xs, low, high):
                return sorted(set(range(low, high + 1)) - set(xs))
        """),
        cases=(("[], 1, 3", "[1, 2, 3]"), ("[2], 1, 3", "[1, 3]"), ("[1, 3], 1, 3", "[2]"),
               ("[4, 4], 4, 4", "[]"), ("[9], 0, 2", "[0, 1, 2]"), ("[5], 6, 3", "[]"),
               ("[0, 2], -1, 2", "[-1, 1]")),
        generate=lambda rng: (_ints(rng), rng.randint(-1, 4), rng.randint(2, 9)),
        difficulty=1,
    ),
    problem(
        "smaller_left_pairs",
        "Write a function `smaller_left_pairs(a, b)` that counts the pairs of one element of `a` and one of "
        "`b` (by position, so repeats count) in which the element of `a` is strictly smaller.",
        references=("""
            def smaller_left_pairs(a, b):
                count = 0
                for x in a:
                    for y in b:
                        if x < y:
                            count += 1
                return count
        """, """
            from bisect import bisect_left

            def smaller_left_pairs(a, b):
                ordered = sorted(a)
                return sum(bisect_left(ordered, y) for y in b)
        """),
        cases=(("[], []", "0"), ("[1], []", "0"), ("[1], [2]", "1"), ("[2], [2]", "0"), ("[3], [2]", "0"),
               ("[1, 1], [2, 0]", "2"), ("[1, 5], [3, 6, 9]", "5"), ("[0, 4, 4], [4, 5]", "4")),
        generate=lambda rng: (_ints(rng, longest=5), _ints(rng, longest=5)),
        difficulty=2,
    ),
    problem(
        "widest_street_trip",
        "Streets form a square grid, so the way between the integer points (x, y) and (u, v) has the length "
        "|x - u| + |y - v|. Write a function `widest_street_trip(points)` that returns the longest way "
        "between two of the points, 0 if there are fewer than two.",
        references=("""
            def widest_street_trip(points):
                longest = 0
                for x, y in points:
                    for u, v in points:
                        way = abs(x - u) + abs(y - v)
                        if way > longest:
                            longest = way
                return longest
        """, """
            def widest_street_trip(points):
                sums = [x + y for x, y in points] or [0]
                gaps = [x - y for x, y in points] or [0]
                return max(max(sums) - min(sums), max(gaps) - min(gaps))
        """),
        cases=(("[]", "0"), ("[(3, 4)]", "0"), ("[(0, 0), (2, 3)]", "5"), ("[(0, 5), (3, 1)]", "7"),
               ("[(1, 1), (1, 1)]", "0"), ("[(0, 0), (4, 0), (0, 4)]", "8"),
               ("[(-2, 0), (3, -1), (1, 2)]", "6")),
        generate=lambda rng: ([(rng.randint(-5, 5), rng.randint(-5, 5)) for _ in range(rng.randint(0, 5))],),
        difficulty=4,
    ),
]
