"""Sorting and searching: ranks, insertion places, orders by key."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "sorting"


def _ints(rng: Random, low: int = 0, high: int = 9, longest: int = 7) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(0, longest))]


# fmt: off
PROBLEMS = [
    problem(
        "count_between",
        "Write a function `count_between(xs, low, high)` that counts the elements `x` of the ascending list "
        "`xs` with `low` <= `x` < `high`; the result is 0 when `low` >= `high`.",
        references=("""
            def count_between(xs, low, high):
                count = 0
                for x in xs:
                    if x >= high:
                        break
                    if x >= low:
                        count += 1
                return count
        """, """
            from bisect import bisect_left

            def count_between(xs, low, high):
                return max(0, bisect_left(xs, high) - bisect_left(xs, low))
        """),
        cases=(("[], 0, 5", "0"), ("[1, 2, 3], 1, 3", "2"), ("[1, 2, 3], 2, 2", "0"),
               ("[2, 2, 2], 2, 3", "3"), ("[1, 4, 6, 9], 5, 20", "2"), ("[1, 4, 6, 9], 9, 1", "0"),
               ("[0, 3, 5], -5, 5", "2")),
        generate=lambda rng: (sorted(_ints(rng)), rng.randint(-1, 8), rng.randint(0, 10)),
        difficulty=2,
    ),
    problem(
        "order_by_last_digit",
        "Write a function `order_by_last_digit(xs)` that returns the non-negative integers of `xs` ordered "
        "by their last decimal digit, ascending; numbers with equal last digits keep their order.",
        references=("""
            def order_by_last_digit(xs):
                out = []
                for digit in range(10):
                    for x in xs:
                        if x % 10 == digit:
                            out.append(x)
                return out
        """, """
            def order_by_last_digit(xs):
                return sorted(xs, key=lambda x: int(str(x)[-1]))
        """),
        cases=(("[]", "[]"), ("[9]", "[9]"), ("[19, 10]", "[10, 19]"), ("[21, 11, 1]", "[21, 11, 1]"),
               ("[35, 4, 12, 100, 22]", "[100, 12, 22, 4, 35]"), ("[8, 7, 17, 18]", "[7, 17, 8, 18]")),
        generate=lambda rng: (_ints(rng, 0, 120),),
        difficulty=2,
    ),
    problem(
        "leader_margin",
        "Write a function `leader_margin(xs)` that returns by how much the largest element of `xs` exceeds "
        "the second largest; a tie for the first place gives 0, and so do fewer than two elements.",
        references=("""
            def leader_margin(xs):
                if len(xs) < 2:
                    return 0
                first, second = max(xs[0], xs[1]), min(xs[0], xs[1])
                for x in xs[2:]:
                    if x > first:
                        first, second = x, first
                    elif x > second:
                        second = x
                return first - second
        """, """
            def leader_margin(xs):
                top = sorted(xs)[-2:]
                return top[-1] - top[0] if top else 0
        """),
        cases=(("[]", "0"), ("[5]", "0"), ("[3, 8]", "5"), ("[8, 3]", "5"), ("[4, 4, 1]", "0"),
               ("[1, 9, 7, 2]", "2"), ("[-3, -10, -5]", "2"), ("[2, 5, 9]", "4"), ("[0, 0, 6, 6]", "0")),
        generate=lambda rng: (_ints(rng, -9, 20),),
        difficulty=3,
    ),
    problem(
        "merge_falling",
        "Write a function `merge_falling(a, b)` that merges two lists, each sorted from large to small, into "
        "one list sorted from large to small that keeps all elements.",
        references=("""
            def merge_falling(a, b):
                out = []
                i = j = 0
                while i < len(a) and j < len(b):
                    if a[i] >= b[j]:
                        out.append(a[i])
                        i += 1
                    else:
                        out.append(b[j])
                        j += 1
                return out + a[i:] + b[j:]
        """, """
            def merge_falling(a, b):
                return sorted(a + b, reverse=True)
        """, """
            def merge_falling(a, b):
                if not a or not b:
                    return a + b
                if a[0] < b[0]:
                    a, b = b, a
                return a[:1] + merge_falling(a[1:], b)
        """),
        cases=(("[], []", "[]"), ("[3, 1], []", "[3, 1]"), ("[], [2]", "[2]"),
               ("[5, 3, 1], [4, 2]", "[5, 4, 3, 2, 1]"), ("[2, 2], [2]", "[2, 2, 2]"),
               ("[9, 0], [8, 7, -1]", "[9, 8, 7, 0, -1]"), ("[1], [6, 5]", "[6, 5, 1]")),
        generate=lambda rng: (sorted(_ints(rng, longest=5))[::-1], sorted(_ints(rng, longest=5))[::-1]),
        difficulty=3,
    ),
    problem(
        "out_of_place",
        "Write a function `out_of_place(xs)` that counts the positions at which the list `xs` differs from "
        "its own ascending sorted copy.",
        references=("""
            def out_of_place(xs):
                ordered = sorted(xs)
                count = 0
                for i in range(len(xs)):
                    if xs[i] != ordered[i]:
                        count += 1
                return count
        """, """
            def out_of_place(xs):
                return len(xs) - sum(map(lambda a, b: a == b, xs, sorted(xs)))
        """),
        cases=(("[]", "0"), ("[2]", "0"), ("[2, 1]", "2"), ("[1, 2, 3]", "0"), ("[3, 2, 1]", "2"),
               ("[2, 3, 1]", "3"), ("[1, 1, 0, 4]", "2"), ("[5, 5, 5]", "0")),
        generate=lambda rng: (_ints(rng, 0, 5),),
        difficulty=2,
    ),
    problem(
        "rank_list",
        "Write a function `rank_list(xs)` that replaces each element of `xs` by the number of elements of "
        "`xs` that are strictly smaller than it.",
        references=("""
            def rank_list(xs):
                ranks = []
                for x in xs:
                    smaller = 0
                    for y in xs:
                        if y < x:
                            smaller += 1
                    ranks.append(smaller)
                return ranks
        """, """
            def rank_list(xs):
                ordered = sorted(xs)
                return [ordered.index(x) for x in xs]
        """),
        cases=(("[]", "[]"), ("[7]", "[0]"), ("[3, 1, 2]", "[2, 0, 1]"), ("[5, 5]", "[0, 0]"),
               ("[4, 9, 4, 1]", "[1, 3, 1, 0]"), ("[-1, 0, -1]", "[0, 2, 0]")),
        generate=lambda rng: (_ints(rng, -4, 6),),
        difficulty=2,
    ),
    problem(
        "nearest_value",
        "Write a function `nearest_value(xs, target)` that returns the element of the non-empty list `xs` "
        "with the smallest distance to `target`; if two values are equally near, the smaller one.",
        references=("""
            def nearest_value(xs, target):
                best = xs[0]
                for x in xs[1:]:
                    gap = abs(x - target) - abs(best - target)
                    if gap < 0 or (gap == 0 and x < best):
                        best = x
                return best
        """, """
            def nearest_value(xs, target):
                return min(sorted(xs), key=lambda x: abs(x - target))
        """, """
            def nearest_value(xs, target):
                gap = 0
                while True:
                    if target - gap in xs:
                        return target - gap
                    if target + gap in xs:
                        return target + gap
                    gap += 1
        """),
        cases=(("[4], 10", "4"), ("[1, 9], 5", "1"), ("[9, 1], 5", "1"), ("[3, 7, 6], 5", "6"),
               ("[2, 2, 8], 8", "8"), ("[-4, 4, 10], 0", "-4"), ("[5, 1], 2", "1"), ("[7, 9, 12], 10", "9"),
               ("[1, 4], 3", "4"), ("[5, -5, -7], -6", "-7")),
        generate=lambda rng: ([rng.randint(-9, 9), *_ints(rng, -9, 9)], rng.randint(-9, 9)),
        difficulty=3,
    ),
    problem(
        "first_at_least",
        "Write a function `first_at_least(xs, bound)` that returns the first index of the ascending list "
        "`xs` whose element is at least `bound`, or the length of `xs` if there is none.",
        references=("""
            def first_at_least(xs, bound):
                low = 0
                high = len(xs)
                while low < high:
                    middle = (low + high) // 2
                    if xs[middle] < bound:
                        low = middle + 1
                    else:
                        high = middle
                return low
        """, """
            def first_at_least(xs, bound):
                i = 0
                while i < len(xs) and xs[i] < bound:
                    i += 1
                return i
        """, """
            def first_at_least(xs, bound):
                return sum(x < bound for x in xs)
        """),
        cases=(("[], 1", "0"), ("[5], 5", "0"), ("[5], 6", "1"), ("[1, 3, 3, 3, 7], 3", "1"),
               ("[1, 3, 5, 7], 4", "2"), ("[1, 3, 5, 7], 0", "0"), ("[1, 3, 5, 7], 8", "4"),
               ("[2, 2, 4, 6, 6], 6", "3")),
        generate=lambda rng: (sorted(_ints(rng, longest=9)), rng.randint(0, 10)),
        difficulty=3,
    ),
    problem(
        "selection_swaps",
        "Selection sort brings, for each position from left to right, the first smallest of the remaining "
        "elements to it by a swap. Write a function `selection_swaps(xs)` that counts the swaps between two "
        "different positions.",
        references=("""
            def selection_swaps(xs):
                xs = list(xs)
                swaps = 0
                for i in range(len(xs)):
                    j = xs.index(min(xs[i:]), i)
                    if j != i:
                        xs[i], xs[j] = xs[j], xs[i]
                        swaps += 1
                return swaps
        """, """
            def selection_swaps(xs):
                if not xs:
                    return 0
                j = xs.index(min(xs))
                if j == 0:
                    return selection_swaps(xs[1:])
                return 1 + selection_swaps(xs[1:j] + xs[:1] + xs[j + 1 :])
        """),
        cases=(("[]", "0"), ("[1]", "0"), ("[2, 1]", "1"), ("[1, 2, 3]", "0"), ("[3, 2, 1]", "1"),
               ("[2, 3, 1]", "2"), ("[4, 4, 1, 4]", "1"), ("[5, 1, 4, 2, 3]", "4"), ("[2, 2, 1]", "1"),
               ("[2, 1, 2, 1]", "2"), ("[3, 1, 0, 2]", "2"), ("[1, 3, 2]", "1")),
        generate=lambda rng: (_ints(rng, 0, 5, 6),),
        difficulty=4,
    ),
]
