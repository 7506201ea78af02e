"""Whole numbers: primes, divisors, fractions."""

from __future__ import annotations

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "divisors"

# fmt: off
PROBLEMS = [
    problem(
        "odd_divisors",
        "Write a function `odd_divisors(n)` that counts the odd positive divisors of the positive integer "
        "`n`.",
        references=("""
            def odd_divisors(n):
                count = 0
                for d in range(1, n + 1, 2):
                    if n % d == 0:
                        count += 1
                return count
        """, """
            def odd_divisors(n):
                while n % 2 == 0:
                    n //= 2
                return sum(n % d == 0 for d in range(1, n + 1))
        """),
        cases=(("1", "1"), ("2", "1"), ("3", "2"), ("6", "2"), ("9", "3"), ("16", "1"), ("45", "6"),
               ("60", "4")),
        generate=lambda rng: (rng.randint(1, 300),),
        difficulty=1,
    ),
    problem(
        "least_factor",
        "Write a function `least_factor(n)` that returns the smallest divisor greater than 1 of the integer "
        "`n` (at least 2).",
        references=("""
            def least_factor(n):
                d = 2
                while n % d != 0:
                    d += 1
                return d
        """, """
            def least_factor(n):
                d = 2
                while d * d <= n:
                    if n % d == 0:
                        return d
                    d += 1
                return n
        """, """
            def least_factor(n):
                return min(d for d in range(2, n + 1) if n % d == 0)
        """),
        cases=(("2", "2"), ("3", "3"), ("9", "3"), ("15", "3"), ("25", "5"), ("29", "29"), ("49", "7"),
               ("100", "2"), ("77", "7")),
        generate=lambda rng: (rng.randint(2, 400) | rng.choice((0, 1)),),
        difficulty=1,
    ),
    problem(
        "next_prime_gap",
        "Write a function `next_prime_gap(n)` that returns how far the smallest prime number greater than "
        "the non-negative integer `n` is from `n`.",
        references=("""
            def next_prime_gap(n):
                gap = 1
                while True:
                    p = n + gap
                    if p > 1 and all(p % d for d in range(2, p)):
                        return gap
                    gap += 1
        """, """
            def next_prime_gap(n):
                p = n
                divisor_count = 0
                while divisor_count != 2:
                    p += 1
                    divisor_count = 0
                    for d in range(1, p + 1):
                        if p % d == 0:
                            divisor_count += 1
                return p - n
        """),
        cases=(("0", "2"), ("1", "1"), ("2", "1"), ("3", "2"), ("7", "4"), ("13", "4"), ("23", "6"),
               ("24", "5"), ("31", "6")),
        generate=lambda rng: (rng.randint(0, 120),),
        difficulty=3,
    ),
    problem(
        "factor_power",
        "Write a function `factor_power(n, p)` that returns how many times in a row the positive integer `n` "
        "can be divided by `p` (at least 2) without remainder.",
        references=("""
            def factor_power(n, p):
                times = 0
                while n % p == 0:
                    n //= p
                    times += 1
                return times
        """, """
            def factor_power(n, p):
                return 0 if n % p else 1 + factor_power(n // p, p)
        """, """
            def factor_power(n, p):
                power = p
                times = 0
                while power <= n and n % power == 0:
                    power *= p
                    times += 1
                return times
        """),
        cases=(("1, 2", "0"), ("8, 2", "3"), ("12, 2", "2"), ("12, 5", "0"), ("81, 3", "4"), ("36, 6", "2"),
               ("40, 4", "1"), ("5, 5", "1")),
        generate=lambda rng: (rng.choice((1, 5, 8, 9, 16, 27)) * 6 ** rng.randint(0, 3), rng.randint(2, 6)),
        difficulty=1,
    ),
    problem(
        "coprime_count",
        "Write a function `coprime_count(n)` that counts the integers from 1 to the positive integer `n` "
        "whose only positive common divisor with `n` is 1.",
        references=("""
            def coprime_count(n):
                count = 0
                for k in range(1, n + 1):
                    a, b = n, k
                    while b > 0:
                        a, b = b, a % b
                    if a == 1:
                        count += 1
                return count
        """, """
            from math import gcd

            def coprime_count(n):
                return sum(gcd(k, n) == 1 for k in range(1, n + 1))
        """, """
            def coprime_count(n):
                shared = set()
                for d in range(2, n + 1):
                    if n % d == 0:
                        shared.update(range(d, n + 1, d))
                return n - len(shared)
        """),
        cases=(("1", "1"), ("2", "1"), ("6", "2"), ("7", "6"), ("9", "6"), ("12", "4"), ("30", "8"),
               ("16", "8")),
        generate=lambda rng: (rng.randint(1, 120),),
        difficulty=3,
    ),
    problem(
        "meeting_point",
        "Write a function `meeting_point(xs)` that returns the smallest positive integer divisible by every "
        "positive integer in the list `xs`; for an empty list it is 1.",
        references=("""
            def meeting_point(xs):
                n = 1
                for x in xs:
                    step = n
                    while n % x != 0:
                        n += step
                return n
        """, """
            from math import gcd

            def meeting_point(xs):
                n = 1
                for x in xs:
                    n = n * x // gcd(n, x)
                return n
        """, """
            def meeting_point(xs):
                n = 1
                while any(n % x for x in xs):
                    n += 1
                return n
        """),
        cases=(("[]", "1"), ("[7]", "7"), ("[2, 3]", "6"), ("[4, 6]", "12"), ("[3, 3, 9]", "9"),
               ("[2, 5, 8]", "40"), ("[1, 1]", "1"), ("[10, 4, 6]", "60")),
        generate=lambda rng: ([rng.randint(1, 10) for _ in range(rng.randint(0, 4))],),
        difficulty=3,
    ),
    problem(
        "lowest_terms",
        "Write a function `lowest_terms(a, b)` that reduces the fraction of the non-negative integer `a` and "
        "the positive integer `b` and returns the tuple (numerator, denominator); zero becomes (0, 1).",
        references=("""
            def lowest_terms(a, b):
                d = 2
                while d <= b:
                    if a % d == 0 and b % d == 0:
                        a //= d
                        b //= d
                    else:
                        d += 1
                return (a, b)
        """, """
            from math import gcd

            def lowest_terms(a, b):
                g = gcd(a, b)
                return (a // g, b // g)
        """, """
            from fractions import Fraction

            def lowest_terms(a, b):
                return Fraction(a, b).as_integer_ratio()
        """),
        cases=(("0, 5", "(0, 1)"), ("1, 2", "(1, 2)"), ("2, 4", "(1, 2)"), ("6, 3", "(2, 1)"),
               ("18, 12", "(3, 2)"), ("7, 7", "(1, 1)"), ("25, 15", "(5, 3)"), ("9, 8", "(9, 8)")),
        generate=lambda rng: (rng.randint(0, 60), rng.randint(1, 60)),
        difficulty=2,
    ),
    problem(
        "square_part",
        "Write a function `square_part(n)` that returns the largest integer whose square divides the "
        "positive integer `n`.",
        references=("""
            def square_part(n):
                best = 1
                k = 2
                while k * k <= n:
                    if n % (k * k) == 0:
                        best = k
                    k += 1
                return best
        """, """
            def square_part(n):
                return max(k for k in range(1, n + 1) if n % k**2 == 0)
        """, """
            def square_part(n):
                root = 1
                p = 2
                while p * p <= n:
                    if n % (p * p) == 0:
                        n //= p * p
                        root *= p
                    else:
                        p += 1
                return root
        """),
        cases=(("1", "1"), ("4", "2"), ("7", "1"), ("8", "2"), ("9", "3"), ("12", "2"), ("72", "6"),
               ("100", "10"), ("144", "12"), ("50", "5"), ("250", "5")),
        generate=lambda rng: (rng.randint(1, 12) * rng.randint(1, 6) ** 2,),
        difficulty=3,
    ),
    problem(
        "factor_pairs",
        "Write a function `factor_pairs(n)` that lists all tuples (a, b) of positive integers with a <= b "
        "and a * b equal to the positive integer `n`, in ascending order of a.",
        references=("""
            def factor_pairs(n):
                pairs = []
                a = 1
                while a * a <= n:
                    if n % a == 0:
                        pairs.append((a, n // a))
                    a += 1
                return pairs
        """, """
            def factor_pairs(n):
                ds = [d for d in range(1, n + 1) if n % d == 0]
                return [(a, b) for a, b in zip(ds, reversed(ds)) if a <= b]
        """),
        cases=(("1", "[(1, 1)]"), ("2", "[(1, 2)]"), ("4", "[(1, 4), (2, 2)]"),
               ("12", "[(1, 12), (2, 6), (3, 4)]"), ("13", "[(1, 13)]"),
               ("36", "[(1, 36), (2, 18), (3, 12), (4, 9), (6, 6)]"), ("10", "[(1, 10), (2, 5)]")),
        generate=lambda rng: (rng.randint(1, 150),),
        difficulty=2,
    ),
]
