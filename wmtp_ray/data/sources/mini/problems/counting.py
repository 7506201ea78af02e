"""Counting with dictionaries: tallies, groups, repeated values."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "counting"


def _ints(rng: Random, high: int = 4, longest: int = 8) -> list[int]:
    return [rng.randint(0, high) for _ in range(rng.randint(0, longest))]


def _letters(rng: Random, letters: str, longest: int = 8) -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randint(0, longest)))


def _words(rng: Random) -> list[str]:
    return [rng.choice(["a", "b", "hi", "no", "ox", "sun", "map"]) for _ in range(rng.randint(0, 6))]


def _table(rng: Random) -> dict[str, int]:
    return {c: rng.randint(-2, 2) for c in rng.sample("abcde", rng.randint(0, 4))}


# fmt: off
PROBLEMS = [
    problem(
        "remainder_counts",
        "Write a function `remainder_counts(xs, m)` that returns a list of `m` numbers (`m` at least 1): at "
        "index r the number of elements of `xs` which leave the remainder r when divided by `m`. All "
        "elements are non-negative.",
        references=("""
            def remainder_counts(xs, m):
                counts = [0] * m
                for x in xs:
                    counts[x % m] += 1
                return counts
        """, """
            def remainder_counts(xs, m):
                return [sum(x % m == r for x in xs) for r in range(m)]
        """),
        cases=(("[], 2", "[0, 0]"), ("[5], 1", "[1]"), ("[1, 2, 3], 2", "[1, 2]"),
               ("[0, 3, 6, 7], 3", "[3, 1, 0]"), ("[4, 4], 5", "[0, 0, 0, 0, 2]"),
               ("[9, 10, 11], 4", "[0, 1, 1, 1]")),
        generate=lambda rng: (_ints(rng, 20), rng.randint(1, 5)),
        difficulty=1,
    ),
    problem(
        "favourite_letter",
        "Write a function `favourite_letter(s)` that returns the character that occurs most often in `s`; of "
        "several such characters the alphabetically smallest one, and '' if `s` is empty.",
        references=("""
            def favourite_letter(s):
                best = ""
                most = 0
                for c in sorted(s):
                    n = s.count(c)
                    if n > most:
                        best = c
                        most = n
                return best
        """, """
            from collections import Counter

            def favourite_letter(s):
                counts = Counter(s)
                return min(counts, key=lambda c: (-counts[c], c), default="")
        """),
        cases=(("''", "''"), ("'z'", "'z'"), ("'ba'", "'a'"), ("'abb'", "'b'"), ("'ccbbaa'", "'a'"),
               ("'mississippi'", "'i'"), ("'abccc'", "'c'")),
        generate=lambda rng: (_letters(rng, "abcd"),),
        difficulty=2,
    ),
    problem(
        "seen_again",
        "Write a function `seen_again(xs)` that lists the values which occur at least twice in `xs`, each "
        "once, in the order of their first occurrence.",
        references=("""
            def seen_again(xs):
                counts = {}
                for x in xs:
                    counts[x] = counts.get(x, 0) + 1
                return [x for x, n in counts.items() if n >= 2]
        """, """
            def seen_again(xs):
                out = []
                for i, x in enumerate(xs):
                    if x not in xs[:i] and x in xs[i + 1 :]:
                        out.append(x)
                return out
        """),
        cases=(("[]", "[]"), ("[1]", "[]"), ("[1, 1]", "[1]"), ("[2, 1, 1, 2]", "[2, 1]"),
               ("[3, 3, 3, 0]", "[3]"), ("[4, 5, 6]", "[]"), ("[0, 7, 9, 7, 9, 9]", "[7, 9]")),
        generate=lambda rng: (_ints(rng),),
        difficulty=2,
    ),
    problem(
        "words_by_length",
        "Write a function `words_by_length(words)` that returns a dict from each occurring word length to "
        "the list of the words of this length, in their order in `words`, repeats included.",
        references=("""
            def words_by_length(words):
                groups = {}
                for word in words:
                    if len(word) not in groups:
                        groups[len(word)] = []
                    groups[len(word)].append(word)
                return groups
        """, """
            def words_by_length(words):
                lengths = {len(w): None for w in words}
                return {n: [w for w in words if len(w) == n] for n in lengths}
        """),
        cases=(("[]", "{}"), ("['a']", "{1: ['a']}"), ("['hi', 'a', 'no']", "{2: ['hi', 'no'], 1: ['a']}"),
               ("['', 'x', '']", "{0: ['', ''], 1: ['x']}"), ("['b', 'b']", "{1: ['b', 'b']}"),
               ("['sun', 'ox', 'map', 'a']", "{3: ['sun', 'map'], 2: ['ox'], 1: ['a']}")),
        generate=lambda rng: (_words(rng),),
        difficulty=2,
    ),
    problem(
        "keys_by_value",
        "Write a function `keys_by_value(table)` that turns the dict `table` round: it maps each value to "
        "the sorted list of the keys that had this value.",
        references=("""
            def keys_by_value(table):
                turned = {}
                for key in sorted(table):
                    turned.setdefault(table[key], []).append(key)
                return turned
        """, """
            def keys_by_value(table):
                turned = {}
                for value in table.values():
                    turned[value] = sorted(k for k in table if table[k] == value)
                return turned
        """),
        cases=(("{}", "{}"), ("{'a': 1}", "{1: ['a']}"), ("{'b': 1, 'a': 1}", "{1: ['a', 'b']}"),
               ("{'x': 2, 'y': 3}", "{2: ['x'], 3: ['y']}"),
               ("{'c': 0, 'b': 5, 'a': 0}", "{0: ['a', 'c'], 5: ['b']}"),
               ("{'q': -1, 'p': -1, 'r': -1}", "{-1: ['p', 'q', 'r']}")),
        generate=lambda rng: (_table(rng),),
        difficulty=3,
    ),
    problem(
        "add_tables",
        "Write a function `add_tables(a, b)` that adds two dicts of integers: each key of `a` or `b` is "
        "mapped to the sum of its values (a missing one counts 0), and keys whose sum is 0 are left out.",
        references=("""
            def add_tables(a, b):
                total = dict(a)
                for key, value in b.items():
                    total[key] = total.get(key, 0) + value
                return {key: value for key, value in total.items() if value != 0}
        """, """
            def add_tables(a, b):
                out = {}
                for key in list(a) + list(b):
                    value = a.get(key, 0) + b.get(key, 0)
                    if value:
                        out[key] = value
                return out
        """),
        cases=(("{}, {}", "{}"), ("{'a': 1}, {}", "{'a': 1}"), ("{}, {'b': 2}", "{'b': 2}"),
               ("{'a': 1}, {'a': 2}", "{'a': 3}"), ("{'a': 1, 'b': 4}, {'a': -1}", "{'b': 4}"),
               ("{'x': 0}, {'y': 5}", "{'y': 5}"), ("{'p': 2}, {'q': -2, 'p': 1}", "{'p': 3, 'q': -2}")),
        generate=lambda rng: (_table(rng), _table(rng)),
        difficulty=3,
    ),
    problem(
        "twin_pairs",
        "Write a function `twin_pairs(xs)` that counts the pairs of positions i < j at which the list `xs` "
        "has equal elements.",
        references=("""
            def twin_pairs(xs):
                pairs = 0
                for i in range(len(xs)):
                    for j in range(i + 1, len(xs)):
                        if xs[i] == xs[j]:
                            pairs += 1
                return pairs
        """, """
            def twin_pairs(xs):
                seen = {}
                pairs = 0
                for x in xs:
                    pairs += seen.get(x, 0)
                    seen[x] = seen.get(x, 0) + 1
                return pairs
        """, """
            def twin_pairs(xs):
                counts = [xs.count(x) for x in set(xs)]
                return sum(n * (n - 1) // 2 for n in counts)
        """),
        cases=(("[]", "0"), ("[1]", "0"), ("[2, 2]", "1"), ("[1, 2, 3]", "0"), ("[5, 5, 5]", "3"),
               ("[1, 2, 1, 2, 1]", "4"), ("[0, 0, 0, 0]", "6"), ("[3, 1, 4, 1]", "1")),
        generate=lambda rng: (_ints(rng),),
        difficulty=2,
    ),
    problem(
        "letters_to_remove",
        "Write a function `letters_to_remove(s, stock)` that returns the least number of characters one must "
        "delete from `s` so that every remaining one can be matched with its own equal character of the "
        "string `stock`.",
        references=("""
            def letters_to_remove(s, stock):
                left = list(stock)
                missing = 0
                for c in s:
                    if c in left:
                        left.remove(c)
                    else:
                        missing += 1
                return missing
        """, """
            from collections import Counter

            def letters_to_remove(s, stock):
                return sum((Counter(s) - Counter(stock)).values())
        """, """
            def letters_to_remove(s, stock):
                return sum(max(0, s.count(c) - stock.count(c)) for c in set(s))
        """),
        cases=(("'', ''", "0"), ("'abc', ''", "3"), ("'', 'abc'", "0"), ("'aab', 'ab'", "1"),
               ("'ab', 'bbaa'", "0"), ("'hello', 'world'", "3"), ("'aaaa', 'aa'", "2")),
        generate=lambda rng: (_letters(rng, "abc"), _letters(rng, "abc")),
        difficulty=3,
    ),
    problem(
        "window_variety",
        "Write a function `window_variety(xs, k)` that returns, for each block of `k` consecutive elements "
        "of `xs` (`k` at least 1) from left to right, how many different values it holds; if `xs` is shorter "
        "than `k` the list is empty.",
        references=("""
            def window_variety(xs, k):
                out = []
                for i in range(len(xs) - k + 1):
                    seen = []
                    for x in xs[i : i + k]:
                        if x not in seen:
                            seen.append(x)
                    out.append(len(seen))
                return out
        """, """
            def window_variety(xs, k):
                return [len(set(xs[i - k : i])) for i in range(k, len(xs) + 1)]
        """),
        cases=(("[], 1", "[]"), ("[4], 1", "[1]"), ("[4, 5], 3", "[]"), ("[1, 1, 2], 2", "[1, 2]"),
               ("[1, 2, 1, 3], 3", "[2, 3]"), ("[0, 0, 0], 3", "[1]"),
               ("[3, 2, 3, 3, 1], 2", "[2, 2, 1, 2]")),
        generate=lambda rng: (_ints(rng, 3), rng.randint(1, 4)),
        difficulty=3,
    ),
]
