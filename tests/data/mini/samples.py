"""Three mini problems for tests: a loop, a string, a recursion with a helper."""

from __future__ import annotations

from wmtp_ray.data.sources.mini.spec import problem

COUNT_ABOVE = problem(
    "count_above",
    "Write a function `count_above(xs, limit)` that counts the numbers of the list `xs` that exceed `limit`.",
    [
        """
        def count_above(xs, limit):
            count = 0
            for x in xs:
                if x > limit:
                    count += 1
            return count
        """,
        """
        def count_above(xs, limit):
            return len([x for x in xs if x > limit])
        """,
    ],
    [
        ("[], 0", "0"),
        ("[1], 0", "1"),
        ("[1], 1", "0"),
        ("[3, 1, 2], 1", "2"),
        ("[5, 5], 4", "2"),
        ("[-1, 0], -2", "2"),
    ],
    lambda rng: ([rng.randint(-5, 5) for _ in range(rng.randint(0, 6))], rng.randint(-5, 5)),
)
LETTERS_OF = problem(
    "letters_of",
    "Write a function `letters_of(text)` that returns the set of the letters of `text` in lower case.",
    [
        """
        def letters_of(text):
            found = set()
            for c in text:
                if c.isalpha():
                    found.add(c.lower())
            return found
        """,
        """
        def letters_of(text):
            return {c for c in text.lower() if c.isalpha()}
        """,
    ],
    [
        ("''", "set()"),
        ("'a'", "{'a'}"),
        ("'aA'", "{'a'}"),
        ("'1 b'", "{'b'}"),
        ("'Cab'", "{'a', 'b', 'c'}"),
        ("'!?'", "set()"),
    ],
    lambda rng: ("".join(rng.choice("abcABC 12") for _ in range(rng.randint(0, 8))),),
)
BINARY_WEIGHT = problem(
    "binary_weight",
    "Write a function `binary_weight(n)` that counts the ones in the binary form of the non-negative integer `n`.",
    [
        """
        def binary_weight(n):
            ones = 0
            while n > 0:
                ones += n % 2
                n //= 2
            return ones
        """,
        """
        def half(n):
            return n // 2

        def binary_weight(n):
            if n == 0:
                return 0
            return n % 2 + binary_weight(half(n))
        """,
        """
        def binary_weight(n):
            return bin(n).count('1')
        """,
    ],
    [("0", "0"), ("1", "1"), ("2", "1"), ("3", "2"), ("8", "1"), ("255", "8")],
    lambda rng: (rng.randint(0, 500),),
    difficulty=2,
)
SAMPLES = (COUNT_ABOVE, LETTERS_OF, BINARY_WEIGHT)
