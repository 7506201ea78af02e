"""One pass over a list: prefix sums, windows, greedy choices."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "scanning"


def _ints(rng: Random, low: int = 0, high: int = 9, longest: int = 7) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(0, longest))]


# fmt: off
PROBLEMS = [
    problem(
        "balanced_cuts",
        "Write a function `balanced_cuts(xs)` that counts the places where `xs` can be cut into a left and a "
        "right part, both non-empty, with equal sums.",
        references=("""
            def balanced_cuts(xs):
                count = 0
                left = 0
                right = sum(xs)
                for x in xs[:-1]:
                    left += x
                    right -= x
                    if left == right:
                        count += 1
                return count
        """, """
            def balanced_cuts(xs):
                return sum(sum(xs[:i]) == sum(xs[i:]) for i in range(1, len(xs)))
        """, """
            from itertools import accumulate

            def balanced_cuts(xs):
                return sum(2 * part == sum(xs) for part in list(accumulate(xs))[:-1])
        """),
        cases=(("[]", "0"), ("[0]", "0"), ("[2, 2]", "1"), ("[1, 2]", "0"), ("[0, 0, 0]", "2"),
               ("[1, 2, 3]", "1"), ("[3, -3, 0, 0]", "2"), ("[5, 0, 5]", "2"), ("[1, 4, 2, 3]", "1")),
        generate=lambda rng: (_ints(rng, -1, 2),),
        difficulty=2,
    ),
    problem(
        "stock_needed",
        "A store's stock changes by the integers in `changes`, one after the other. Write a function "
        "`stock_needed(changes)` that returns the smallest non-negative starting stock with which the stock "
        "never falls below zero.",
        references=("""
            def stock_needed(changes):
                stock = 0
                needed = 0
                for change in changes:
                    stock += change
                    if -stock > needed:
                        needed = -stock
                return needed
        """, """
            from itertools import accumulate

            def stock_needed(changes):
                return -min(accumulate(changes, initial=0))
        """, """
            def stock_needed(changes):
                needed = 0
                for change in reversed(changes):
                    needed = max(0, needed - change)
                return needed
        """),
        cases=(("[]", "0"), ("[5]", "0"), ("[-3]", "3"), ("[2, -3]", "1"), ("[-1, -1, 5]", "2"),
               ("[4, -2, -2]", "0"), ("[-2, 3, -4, 1]", "3"), ("[1, -6, 5, -1]", "5")),
        generate=lambda rng: (_ints(rng, -5, 4),),
        difficulty=3,
    ),
    problem(
        "fewest_coins",
        "Write a function `fewest_coins(amount)` that returns the smallest number of coins worth 1, 2, 5, "
        "10, 20 or 50 which add up to the non-negative integer `amount`.",
        references=("""
            def fewest_coins(amount):
                count = 0
                for coin in (50, 20, 10, 5, 2, 1):
                    while amount >= coin:
                        amount -= coin
                        count += 1
                return count
        """, """
            def fewest_coins(amount):
                best = [0]
                for total in range(1, amount + 1):
                    options = [c for c in (1, 2, 5, 10, 20, 50) if c <= total]
                    best.append(1 + min(best[total - c] for c in options))
                return best[amount]
        """, """
            def fewest_coins(amount):
                tens, ones = divmod(amount % 50, 10)
                small = (0, 1, 1, 2, 2)
                return amount // 50 + small[tens] + ones // 5 + small[ones % 5]
        """),
        cases=(("0", "0"), ("1", "1"), ("3", "2"), ("4", "2"), ("10", "1"), ("38", "5"), ("45", "3"),
               ("50", "1"), ("99", "6"), ("120", "3")),
        generate=lambda rng: (rng.randint(0, 160),),
        difficulty=2,
    ),
    problem(
        "boxes_in_order",
        "Items are packed into boxes in the given order: an item opens a new box if it would lift the "
        "current box above `limit`. Write a function `boxes_in_order(weights, limit)` that returns the "
        "number of boxes; every weight is positive and at most `limit`.",
        references=("""
            def boxes_in_order(weights, limit):
                boxes = 0
                room = 0
                for weight in weights:
                    if weight > room:
                        boxes += 1
                        room = limit
                    room -= weight
                return boxes
        """, """
            def boxes_in_order(weights, limit):
                boxes = []
                for weight in weights:
                    if boxes and sum(boxes[-1]) + weight <= limit:
                        boxes[-1].append(weight)
                    else:
                        boxes.append([weight])
                return len(boxes)
        """),
        cases=(("[], 5", "0"), ("[5], 5", "1"), ("[2, 3], 5", "1"), ("[2, 4], 5", "2"),
               ("[1, 1, 1, 1], 2", "2"), ("[4, 3, 1, 1, 5], 5", "3"), ("[3, 3, 3], 8", "2"),
               ("[1, 6, 4, 6], 6", "4"), ("[6, 1, 1, 1, 5, 2], 6", "4"), ("[2, 2, 1, 5, 1], 5", "3")),
        generate=lambda rng: ([rng.randint(1, 6) for _ in range(rng.randint(0, 7))], rng.randint(6, 10)),
        difficulty=3,
    ),
    problem(
        "best_window",
        "Write a function `best_window(xs, k)` that returns the largest sum of `k` neighbouring elements of "
        "`xs` (`k` at least 1), or None if `xs` has fewer than `k` elements.",
        references=("""
            def best_window(xs, k):
                if len(xs) < k:
                    return None
                window = sum(xs[:k])
                best = window
                for i in range(k, len(xs)):
                    window += xs[i] - xs[i - k]
                    best = max(best, window)
                return best
        """, """
            def best_window(xs, k):
                sums = [sum(xs[i : i + k]) for i in range(len(xs) - k + 1)]
                return max(sums) if sums else None
        """),
        cases=(("[], 1", "None"), ("[3], 1", "3"), ("[3], 2", "None"), ("[1, 5, 2], 1", "5"),
               ("[1, 5, 2], 2", "7"), ("[-4, -1, -3], 2", "-4"), ("[2, 2, 2], 3", "6"),
               ("[9, -9, 4, 4, 0], 2", "8"), ("[5, 1, 1, 1], 3", "7")),
        generate=lambda rng: (_ints(rng, -5, 9), rng.randint(1, 4)),
        difficulty=3,
    ),
    problem(
        "visible_towers",
        "Write a function `visible_towers(heights)` that counts the towers which can be seen from the left, "
        "that is those strictly higher than every tower before them; heights are positive.",
        references=("""
            def visible_towers(heights):
                count = 0
                highest = 0
                for height in heights:
                    if height > highest:
                        count += 1
                        highest = height
                return count
        """, """
            from itertools import accumulate

            def visible_towers(heights):
                return len(set(accumulate(heights, max)))
        """, """
            def visible_towers(heights):
                return sum(all(h > g for g in heights[:i]) for i, h in enumerate(heights))
        """),
        cases=(("[]", "0"), ("[1]", "1"), ("[2, 2]", "1"), ("[1, 2, 3]", "3"), ("[3, 2, 1]", "1"),
               ("[2, 1, 3, 3, 5]", "3"), ("[4, 9, 6, 10]", "3")),
        generate=lambda rng: (_ints(rng, 1, 9),),
        difficulty=1,
    ),
    problem(
        "steepest_fall",
        "Write a function `steepest_fall(xs)` that returns the largest value of `xs[i] - xs[j]` over all "
        "positions i < j, or 0 if no later element is smaller than an earlier one.",
        references=("""
            def steepest_fall(xs):
                fall = 0
                for j in range(len(xs)):
                    for i in range(j):
                        if xs[i] - xs[j] > fall:
                            fall = xs[i] - xs[j]
                return fall
        """, """
            def steepest_fall(xs):
                fall = 0
                top = None
                for x in xs:
                    if top is None or x > top:
                        top = x
                    fall = max(fall, top - x)
                return fall
        """, """
            def steepest_fall(xs):
                return max((max(xs[: i + 1]) - x for i, x in enumerate(xs)), default=0)
        """),
        cases=(("[]", "0"), ("[4]", "0"), ("[1, 5]", "0"), ("[5, 1]", "4"), ("[3, 3]", "0"),
               ("[2, 9, 4, 12, 6]", "6"), ("[7, 1, 9, 8]", "6"), ("[-1, -4, 0, -2]", "3")),
        generate=lambda rng: (_ints(rng, -5, 9),),
        difficulty=2,
    ),
    problem(
        "shortest_start",
        "Write a function `shortest_start(xs, goal)` that returns the smallest number of elements one must "
        "take from the beginning of `xs` so that their sum is at least `goal`, or -1 if no beginning "
        "suffices; taking none gives the sum 0.",
        references=("""
            def shortest_start(xs, goal):
                total = 0
                taken = 0
                while total < goal:
                    if taken == len(xs):
                        return -1
                    total += xs[taken]
                    taken += 1
                return taken
        """, """
            def shortest_start(xs, goal):
                for n in range(len(xs) + 1):
                    if sum(xs[:n]) >= goal:
                        return n
                return -1
        """, """
            from itertools import accumulate

            def shortest_start(xs, goal):
                sums = accumulate(xs, initial=0)
                return next((n for n, total in enumerate(sums) if total >= goal), -1)
        """),
        cases=(("[], 0", "0"), ("[], 1", "-1"), ("[5], 5", "1"), ("[5], 6", "-1"), ("[1, 2, 3], 3", "2"),
               ("[1, 2, 3], 6", "3"), ("[1, 2, 3], -2", "0"), ("[4, -3, 4, 9], 5", "3"),
               ("[2, 2, 2], 3", "2")),
        generate=lambda rng: (_ints(rng, -2, 6), rng.randint(-1, 14)),
        difficulty=2,
    ),
    problem(
        "served_children",
        "Each child takes at most one cake and only one at least as large as its wish. Write a function "
        "`served_children(wishes, cakes)` that returns the largest number of children that can be given a "
        "cake; both lists hold positive integers.",
        references=("""
            def served_children(wishes, cakes):
                wishes = sorted(wishes)
                served = 0
                for cake in sorted(cakes):
                    if served < len(wishes) and cake >= wishes[served]:
                        served += 1
                return served
        """, """
            def served_children(wishes, cakes):
                left = sorted(cakes)
                served = 0
                for wish in sorted(wishes, reverse=True):
                    if left and left[-1] >= wish:
                        left.pop()
                        served += 1
                return served
        """),
        cases=(("[], [3]", "0"), ("[3], []", "0"), ("[2], [2]", "1"), ("[3], [2]", "0"),
               ("[1, 2], [2, 1]", "2"), ("[5, 1, 4], [4, 4]", "2"), ("[2, 2, 2], [1, 2, 3, 9]", "3"),
               ("[7, 8, 9], [9, 1]", "1"), ("[1, 4], [3]", "1")),
        generate=lambda rng: (_ints(rng, 1, 9, 5), _ints(rng, 1, 9, 5)),
        difficulty=4,
    ),
]
