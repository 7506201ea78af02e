"""Positions in strings: runs, prefixes, rotations, periods."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "strings"


def _word(rng: Random, letters: str = "ab", longest: int = 8) -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randint(0, longest)))


# fmt: off
PROBLEMS = [
    problem(
        "weave",
        "Write a function `weave(a, b)` that takes characters from the strings `a` and `b` in turn, "
        "beginning with `a`; once one string is used up, the rest of the other follows unchanged.",
        references=("""
            def weave(a, b):
                out = ""
                for i in range(max(len(a), len(b))):
                    if i < len(a):
                        out += a[i]
                    if i < len(b):
                        out += b[i]
                return out
        """, """
            def weave(a, b):
                n = min(len(a), len(b))
                pairs = "".join(x + y for x, y in zip(a, b))
                return pairs + a[n:] + b[n:]
        """),
        cases=(("'', ''", "''"), ("'abc', ''", "'abc'"), ("'', 'xy'", "'xy'"), ("'ace', 'bdf'", "'abcdef'"),
               ("'a', 'bcd'", "'abcd'"), ("'wxyz', '12'", "'w1x2yz'")),
        generate=lambda rng: (_word(rng, "abc"), _word(rng, "xyz")),
        difficulty=1,
    ),
    problem(
        "squeeze",
        "Write a function `squeeze(s)` that shortens every block of equal neighbouring characters in `s` to "
        "a single character and returns the new string.",
        references=("""
            def squeeze(s):
                out = ""
                for c in s:
                    if not out or out[-1] != c:
                        out += c
                return out
        """, """
            from itertools import groupby

            def squeeze(s):
                return "".join(key for key, block in groupby(s))
        """, """
            def squeeze(s):
                return s[:1] + "".join(b for a, b in zip(s, s[1:]) if a != b)
        """),
        cases=(("''", "''"), ("'a'", "'a'"), ("'aa'", "'a'"), ("'abba'", "'aba'"), ("'aabbccc'", "'abc'"),
               ("'xyxx'", "'xyx'")),
        generate=lambda rng: (_word(rng),),
        difficulty=1,
    ),
    problem(
        "longest_block",
        "Write a function `longest_block(s)` that returns the length of the longest block of equal "
        "neighbouring characters in the string `s`, and 0 for the empty string.",
        references=("""
            def longest_block(s):
                best = 0
                run = 0
                for i, c in enumerate(s):
                    if i > 0 and c == s[i - 1]:
                        run += 1
                    else:
                        run = 1
                    best = max(best, run)
                return best
        """, """
            from itertools import groupby

            def longest_block(s):
                return max((len(list(block)) for key, block in groupby(s)), default=0)
        """),
        cases=(("''", "0"), ("'z'", "1"), ("'ab'", "1"), ("'aab'", "2"), ("'abbb'", "3"), ("'aabaaaab'", "4"),
               ("'bbabb'", "2"), ("'aba'", "1")),
        generate=lambda rng: (_word(rng, longest=12),),
        difficulty=2,
    ),
    problem(
        "shared_prefix",
        "Write a function `shared_prefix(a, b)` that returns the longest string with which both `a` and `b` "
        "begin.",
        references=("""
            def shared_prefix(a, b):
                n = 0
                while n < len(a) and n < len(b) and a[n] == b[n]:
                    n += 1
                return a[:n]
        """, """
            def shared_prefix(a, b):
                for n in range(len(a), 0, -1):
                    if b.startswith(a[:n]):
                        return a[:n]
                return ""
        """),
        cases=(("'', ''", "''"), ("'abc', ''", "''"), ("'abc', 'abd'", "'ab'"), ("'same', 'same'", "'same'"),
               ("'car', 'cart'", "'car'"), ("'xab', 'yab'", "''"), ("'abcab', 'abcbb'", "'abc'"),
               ("'ab', 'ac'", "'a'")),
        generate=lambda rng: (_word(rng), _word(rng)),
        difficulty=1,
    ),
    problem(
        "turn_left",
        "Write a function `turn_left(s, k)` that moves the first character of `s` to its end, `k` times in a "
        "row. `k` is non-negative and may exceed the length; the empty string stays empty.",
        references=("""
            def turn_left(s, k):
                for _ in range(k):
                    s = s[1:] + s[:1]
                return s
        """, """
            def turn_left(s, k):
                if not s:
                    return ""
                cut = k % len(s)
                return s[cut:] + s[:cut]
        """),
        cases=(("'', 3", "''"), ("'a', 5", "'a'"), ("'abc', 0", "'abc'"), ("'abc', 1", "'bca'"),
               ("'abcd', 4", "'abcd'"), ("'abcd', 7", "'dabc'"), ("'abcde', 2", "'cdeab'")),
        generate=lambda rng: (_word(rng, "abcd", longest=6), rng.randint(0, 15)),
        difficulty=2,
    ),
    problem(
        "mirror_mismatches",
        "Compare the first character of `s` with the last, the second with the last but one and so on up to "
        "the middle. Write a function `mirror_mismatches(s)` that returns how many of these pairs differ.",
        references=("""
            def mirror_mismatches(s):
                left = 0
                right = len(s) - 1
                count = 0
                while left < right:
                    if s[left] != s[right]:
                        count += 1
                    left += 1
                    right -= 1
                return count
        """, """
            def mirror_mismatches(s):
                return sum(a != b for a, b in zip(s, s[::-1])) // 2
        """),
        cases=(("''", "0"), ("'q'", "0"), ("'ab'", "1"), ("'level'", "0"), ("'abcd'", "2"), ("'abca'", "1"),
               ("'abcxa'", "1")),
        generate=lambda rng: (_word(rng, longest=10),),
        difficulty=2,
    ),
    problem(
        "swap_neighbours",
        "Write a function `swap_neighbours(s)` that exchanges the characters at positions 0 and 1, 2 and 3, "
        "and so on; in a string of odd length the last character stays where it is.",
        references=("""
            def swap_neighbours(s):
                out = ""
                i = 0
                while i + 1 < len(s):
                    out += s[i + 1] + s[i]
                    i += 2
                return out + s[i:]
        """, """
            def swap_neighbours(s):
                return "".join(s[i : i + 2][::-1] for i in range(0, len(s), 2))
        """, """
            def swap_neighbours(s):
                chars = list(s)
                for i in range(1, len(chars), 2):
                    chars[i - 1], chars[i] = chars[i], chars[i - 1]
                return "".join(chars)
        """),
        cases=(("''", "''"), ("'a'", "'a'"), ("'ab'", "'ba'"), ("'abc'", "'bac'"), ("'abcd'", "'badc'"),
               ("'aabbcce'", "'aabbcce'"), ("'12345'", "'21435'")),
        generate=lambda rng: (_word(rng, "abcde"),),
        difficulty=2,
    ),
    problem(
        "shortest_period",
        "A string has period `p` when every character equals the one `p` places before it, where that "
        "exists. Write a function `shortest_period(s)` that returns the smallest period of at least 1, and 0 "
        "for an empty string.",
        references=("""
            def shortest_period(s):
                for p in range(1, len(s)):
                    fits = True
                    for i in range(p, len(s)):
                        if s[i] != s[i - p]:
                            fits = False
                            break
                    if fits:
                        return p
                return len(s)
        """, """
            def shortest_period(s):
                p = min(1, len(s))
                while s[p:] != s[: len(s) - p]:
                    p += 1
                return p
        """),
        cases=(("''", "0"), ("'a'", "1"), ("'aaaa'", "1"), ("'abab'", "2"), ("'ababa'", "2"), ("'abcd'", "4"),
               ("'abaab'", "3"), ("'aab'", "3"), ("'abca'", "3")),
        generate=lambda rng: (_word(rng, longest=7),),
        difficulty=4,
    ),
    problem(
        "fits_inside",
        "Write a function `fits_inside(part, s)` that tells whether `part` can be made from `s` by deleting "
        "characters without changing the order of the rest; the empty string always can.",
        references=("""
            def fits_inside(part, s):
                i = 0
                for c in s:
                    if i < len(part) and part[i] == c:
                        i += 1
                return i == len(part)
        """, """
            def fits_inside(part, s):
                start = 0
                for c in part:
                    start = s.find(c, start) + 1
                    if start == 0:
                        return False
                return True
        """, """
            def fits_inside(part, s):
                rest = iter(s)
                return all(c in rest for c in part)
        """),
        cases=(("'', ''", "True"), ("'', 'abc'", "True"), ("'a', ''", "False"), ("'ace', 'abcde'", "True"),
               ("'aec', 'abcde'", "False"), ("'aa', 'a'", "False"), ("'aa', 'aba'", "True"),
               ("'abc', 'abc'", "True")),
        generate=lambda rng: (_word(rng, "abc", longest=4), _word(rng, "abc")),
        difficulty=3,
    ),
]
