"""Text for people: padding, wrapping, units, short forms."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "formatting"

_WORDS = ("a", "to", "sea", "wind", "cloud", "harbour")


def _words(rng: Random, longest: int = 5) -> list[str]:
    return [rng.choice(_WORDS) for _ in range(rng.randint(0, longest))]


# fmt: off
PROBLEMS = [
    problem(
        "group_thousands",
        "Write a function `group_thousands(n)` that returns the decimal form of the non-negative integer `n` "
        "with an apostrophe between groups of three digits counted from the right, such as 1'234'567.",
        references=("""
            def group_thousands(n):
                digits = str(n)
                out = ""
                for i, c in enumerate(digits):
                    if i > 0 and (len(digits) - i) % 3 == 0:
                        out += "'"
                    out += c
                return out
        """, """
            def group_thousands(n):
                return f"{n:,}".replace(",", "'")
        """, """
            def group_thousands(n):
                if n < 1000:
                    return str(n)
                return group_thousands(n // 1000) + "'" + str(n)[-3:]
        """),
        cases=(("0", "'0'"), ("999", "'999'"), ("1000", "\"1'000\""), ("12345", "\"12'345\""),
               ("123456", "\"123'456\""), ("1234567", "\"1'234'567\""), ("50", "'50'")),
        generate=lambda rng: (rng.randint(0, 10 ** rng.randint(2, 10)),),
        difficulty=2,
    ),
    problem(
        "stopwatch",
        "Write a function `stopwatch(seconds)` that shows a non-negative number of seconds as hours, minutes "
        "and seconds: minutes and seconds with two digits, hours without padding, as in '2:05:09'.",
        references=("""
            def stopwatch(seconds):
                hours = 0
                minutes = 0
                while seconds >= 60:
                    seconds -= 60
                    minutes += 1
                    if minutes == 60:
                        minutes = 0
                        hours += 1
                return f"{hours}:{minutes:02d}:{seconds:02d}"
        """, """
            def stopwatch(seconds):
                minutes, rest = divmod(seconds, 60)
                parts = [minutes // 60, minutes % 60, rest]
                return str(parts[0]) + "".join(":" + str(p).zfill(2) for p in parts[1:])
        """, """
            from datetime import timedelta

            def stopwatch(seconds):
                return str(timedelta(seconds=seconds))
        """),
        cases=(("0", "'0:00:00'"), ("9", "'0:00:09'"), ("60", "'0:01:00'"), ("3599", "'0:59:59'"),
               ("3600", "'1:00:00'"), ("7509", "'2:05:09'"), ("45296", "'12:34:56'")),
        generate=lambda rng: (rng.randint(0, rng.choice((100, 4000, 80000))),),
        difficulty=2,
    ),
    problem(
        "fill_lines",
        "Write a function `fill_lines(words, width)` that joins `words` with single spaces into lines of at "
        "most `width` characters, putting each word on the current line if it fits, and returns the list of "
        "lines; no word is longer than `width`.",
        references=("""
            def fill_lines(words, width):
                lines = []
                for word in words:
                    if lines and len(lines[-1]) + 1 + len(word) <= width:
                        lines[-1] += " " + word
                    else:
                        lines.append(word)
                return lines
        """, """
            import textwrap

            def fill_lines(words, width):
                return textwrap.wrap(" ".join(words), width)
        """),
        cases=(("[], 5", "[]"), ("['sea'], 3", "['sea']"), ("['a', 'b'], 3", "['a b']"),
               ("['a', 'b'], 2", "['a', 'b']"), ("['to', 'be', 'or', 'not'], 8", "['to be or', 'not']"),
               ("['one', 'two', 'six'], 7", "['one two', 'six']"),
               ("['aa', 'b', 'cccc', 'd'], 6", "['aa b', 'cccc d']"),
               ("['abcd', 'ef', 'gh'], 5", "['abcd', 'ef gh']")),
        generate=lambda rng: (_words(rng, 7), rng.randint(7, 12)),
        difficulty=3,
    ),
    problem(
        "spoken_list",
        "Write a function `spoken_list(words)` that joins the words with ', ', but the last two with ' and "
        "': 'a, b and c'; a single word stands alone and an empty list gives ''.",
        references=("""
            def spoken_list(words):
                out = ""
                for i, word in enumerate(words):
                    if i > 0:
                        out += " and " if i == len(words) - 1 else ", "
                    out += word
                return out
        """, """
            def spoken_list(words):
                if len(words) < 2:
                    return "".join(words)
                return ", ".join(words[:-1]) + " and " + words[-1]
        """, """
            def spoken_list(words):
                return " and ".join(", ".join(words).rsplit(", ", 1))
        """),
        cases=(("[]", "''"), ("['x']", "'x'"), ("['x', 'y']", "'x and y'"),
               ("['a', 'b', 'c']", "'a, b and c'"),
               ("['tea', 'milk', 'salt', 'rice']", "'tea, milk, salt and rice'"),
               ("['no', 'no']", "'no and no'")),
        generate=lambda rng: (_words(rng),),
        difficulty=2,
    ),
    problem(
        "place_name",
        "Write a function `place_name(n)` that writes the positive integer `n` as an English ordinal: '1st', "
        "'2nd', '3rd', '4th', but '11th', '12th', '13th' for numbers that end in 11, 12 or 13.",
        references=("""
            def place_name(n):
                ending = "th"
                if n % 100 < 11 or n % 100 > 13:
                    if n % 10 == 1:
                        ending = "st"
                    elif n % 10 == 2:
                        ending = "nd"
                    elif n % 10 == 3:
                        ending = "rd"
                return str(n) + ending
        """, """
            def place_name(n):
                text = str(n)
                for digit, ending in (("1", "st"), ("2", "nd"), ("3", "rd")):
                    if text.endswith(digit) and not text.endswith("1" + digit):
                        return text + ending
                return text + "th"
        """),
        cases=(("1", "'1st'"), ("2", "'2nd'"), ("3", "'3rd'"), ("4", "'4th'"), ("11", "'11th'"),
               ("12", "'12th'"), ("13", "'13th'"), ("21", "'21st'"), ("112", "'112th'"), ("110", "'110th'"),
               ("203", "'203rd'"), ("522", "'522nd'"), ("14", "'14th'"), ("301", "'301st'"),
               ("313", "'313th'")),
        generate=lambda rng: (rng.randint(0, 3) * 100 + rng.choice((1, rng.randint(1, 24))),),
        difficulty=2,
    ),
    problem(
        "progress_bar",
        "Write a function `progress_bar(done, total, width)` with 0 <= `done` <= `total` and positive "
        "`total`: it returns '[', then `width` characters of which the first done * width // total are '#' "
        "and the others '-', then ']'.",
        references=("""
            def progress_bar(done, total, width):
                bar = "["
                for i in range(width):
                    if (i + 1) * total <= done * width:
                        bar += "#"
                    else:
                        bar += "-"
                return bar + "]"
        """, """
            def progress_bar(done, total, width):
                full = "#" * (done * width // total)
                return "[" + full.ljust(width, "-") + "]"
        """),
        cases=(("0, 5, 4", "'[----]'"), ("5, 5, 4", "'[####]'"), ("1, 2, 4", "'[##--]'"),
               ("1, 3, 4", "'[#---]'"), ("2, 3, 1", "'[-]'"), ("7, 8, 0", "'[]'"),
               ("9, 10, 10", "'[#########-]'")),
        generate=lambda rng: (rng.randint(0, 5), rng.randint(5, 9), rng.randint(0, 8)),
        difficulty=2,
    ),
    problem(
        "flush_right",
        "Write a function `flush_right(words)` that returns the words filled up with spaces on the left to "
        "the length of the longest one.",
        references=("""
            def flush_right(words):
                width = 0
                for word in words:
                    width = max(width, len(word))
                out = []
                for word in words:
                    while len(word) < width:
                        word = " " + word
                    out.append(word)
                return out
        """, """
            def flush_right(words):
                width = max(map(len, words), default=0)
                return [word.rjust(width) for word in words]
        """),
        cases=(("[]", "[]"), ("['ab']", "['ab']"), ("['a', 'bcd']", "['  a', 'bcd']"),
               ("['sea', 'to', 'wind']", "[' sea', '  to', 'wind']"), ("['', 'x']", "[' ', 'x']"),
               ("['longer', 'mid', 'q']", "['longer', '   mid', '     q']")),
        generate=lambda rng: (_words(rng),),
        difficulty=1,
    ),
    problem(
        "page_ranges",
        "Write a function `page_ranges(pages)` that writes an ascending list of different page numbers in "
        "short: two or more consecutive pages become 'first-last', the pieces are joined by ',', and an "
        "empty list gives ''.",
        references=("""
            def page_ranges(pages):
                pieces = []
                for i, page in enumerate(pages):
                    if i == 0 or pages[i - 1] != page - 1:
                        first = page
                    if i == len(pages) - 1 or pages[i + 1] != page + 1:
                        pieces.append(str(page) if page == first else f"{first}-{page}")
                return ",".join(pieces)
        """, """
            def page_ranges(pages):
                starts = [p for p in pages if p - 1 not in pages]
                ends = [p for p in pages if p + 1 not in pages]
                pairs = zip(starts, ends)
                return ",".join(f"{a}-{b}" if a < b else f"{a}" for a, b in pairs)
        """),
        cases=(("[]", "''"), ("[4]", "'4'"), ("[1, 2]", "'1-2'"), ("[1, 3]", "'1,3'"),
               ("[1, 2, 3, 7]", "'1-3,7'"), ("[2, 5, 6, 9, 10, 11]", "'2,5-6,9-11'"),
               ("[8, 9, 11]", "'8-9,11'")),
        generate=lambda rng: (sorted(rng.sample(range(1, 13), rng.randint(0, 8))),),
        difficulty=4,
    ),
    problem(
        "cut_middle",
        "Write a function `cut_middle(s, keep)` that shortens `s` to its first `keep` characters, '..' and "
        "its last `keep` characters (`keep` at least 1); if that would not be shorter than `s`, `s` is "
        "returned unchanged.",
        references=("""
            def cut_middle(s, keep):
                if 2 * keep + 2 >= len(s):
                    return s
                out = ""
                for i in range(keep):
                    out += s[i]
                out += ".."
                for i in range(len(s) - keep, len(s)):
                    out += s[i]
                return out
        """, """
            def cut_middle(s, keep):
                return min(s, s[:keep] + ".." + s[-keep:], key=len)
        """),
        cases=(("'', 1", "''"), ("'abcd', 1", "'abcd'"), ("'abcde', 1", "'a..e'"), ("'abcde', 2", "'abcde'"),
               ("'abcdefg', 2", "'ab..fg'"), ("'abcdef', 2", "'abcdef'"), ("'programming', 3", "'pro..ing'")),
        generate=lambda rng: ("abcdefghijkl"[: rng.randint(0, 12)], rng.randint(1, 4)),
        difficulty=2,
    ),
]
