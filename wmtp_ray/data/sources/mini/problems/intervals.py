"""Intervals and dates: overlaps, gaps, clock times, days."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "intervals"


def _intervals(rng: Random, longest: int = 4, high: int = 12) -> list[tuple[int, int]]:
    out = []
    for _ in range(rng.randint(0, longest)):
        start = rng.randint(0, high)
        out.append((start, start + rng.randint(1, 5)))
    return out


def _span(rng: Random) -> list[int]:
    return sorted((rng.randint(0, 12), rng.randint(0, 12)))


def _clock(rng: Random) -> str:
    return f"{rng.randint(0, 23):02d}:{rng.choice((0, 1, 15, 30, 59)):02d}"


# fmt: off
PROBLEMS = [
    problem(
        "shared_time",
        "Two intervals run from `a` to `b` and from `c` to `d` (integers, a <= b and c <= d). Write a "
        "function `shared_time(a, b, c, d)` that returns the length of their common part, 0 if they have "
        "none.",
        references=("""
            def shared_time(a, b, c, d):
                start = a if a > c else c
                end = b if b < d else d
                if end < start:
                    return 0
                return end - start
        """, """
            def shared_time(a, b, c, d):
                length = 0
                for t in range(a, b):
                    if c <= t < d:
                        length += 1
                return length
        """, """
            def shared_time(a, b, c, d):
                return max(0, min(b, d) - max(a, c))
        """),
        cases=(("0, 5, 3, 8", "2"), ("0, 5, 5, 8", "0"), ("0, 2, 6, 7", "0"), ("6, 7, 0, 2", "0"),
               ("0, 10, 3, 4", "1"), ("3, 4, 0, 10", "1"), ("2, 9, 2, 9", "7"), ("4, 4, 0, 9", "0"),
               ("-3, 1, -2, 6", "3")),
        generate=lambda rng: (*_span(rng), *_span(rng)),
        difficulty=1,
    ),
    problem(
        "covered_length",
        "Write a function `covered_length(spans)` that returns the total length of the number line covered "
        "by a list of integer tuples (start, end) with start < end; parts covered several times count once.",
        references=("""
            def covered_length(spans):
                total = 0
                reached = None
                for start, end in sorted(spans):
                    if reached is None or start > reached:
                        reached = start
                    if end > reached:
                        total += end - reached
                        reached = end
                return total
        """, """
            def covered_length(spans):
                cells = set()
                for start, end in spans:
                    cells.update(range(start, end))
                return len(cells)
        """),
        cases=(("[]", "0"), ("[(2, 5)]", "3"), ("[(0, 2), (4, 5)]", "3"), ("[(0, 4), (2, 6)]", "6"),
               ("[(5, 6), (0, 9)]", "9"), ("[(1, 3), (3, 4)]", "3"), ("[(-2, 1), (0, 1), (7, 9)]", "5"),
               ("[(0, 9), (2, 3), (8, 10)]", "10")),
        generate=lambda rng: (_intervals(rng),),
        difficulty=4,
    ),
    problem(
        "leap_days",
        "A year is a leap year if it is divisible by 4, but not if it is divisible by 100 and not by 400. "
        "Write a function `leap_days(first, last)` that counts the leap years from `first` to `last`, both "
        "included; 0 if first > last.",
        references=("""
            def leap_days(first, last):
                count = 0
                for year in range(first, last + 1):
                    if year % 400 == 0 or (year % 4 == 0 and year % 100 != 0):
                        count += 1
                return count
        """, """
            def leap_days(first, last):
                if first > last:
                    return 0
                before = first - 1
                return sum(s * (last // d - before // d) for s, d in ((1, 4), (-1, 100), (1, 400)))
        """, """
            from calendar import isleap

            def leap_days(first, last):
                return sum(map(isleap, range(first, last + 1)))
        """),
        cases=(("2023, 2023", "0"), ("2024, 2024", "1"), ("1900, 1900", "0"), ("2000, 2000", "1"),
               ("2001, 2008", "2"), ("1896, 1904", "2"), ("1999, 1990", "0"), ("2096, 2104", "2"),
               ("1601, 2000", "97")),
        generate=lambda rng: (rng.randint(1890, 1990), rng.randint(1890, 2030)),
        difficulty=2,
    ),
    problem(
        "day_number",
        "Write a function `day_number(month, day)` that returns which day of a 365-day year the given valid "
        "date is; January 1st (month 1, day 1) is day 1.",
        references=("""
            def day_number(month, day):
                lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
                number = day
                for i in range(month - 1):
                    number += lengths[i]
                return number
        """, """
            from datetime import date

            def day_number(month, day):
                return date(2023, month, day).timetuple().tm_yday
        """, """
            def day_number(month, day):
                while month > 1:
                    month -= 1
                    if month == 2:
                        day += 28
                    elif month in (4, 6, 9, 11):
                        day += 30
                    else:
                        day += 31
                return day
        """),
        cases=(("1, 1", "1"), ("1, 31", "31"), ("2, 1", "32"), ("3, 1", "60"), ("4, 1", "91"),
               ("5, 10", "130"), ("6, 1", "152"), ("11, 30", "334"), ("7, 4", "185"), ("9, 30", "273"),
               ("10, 1", "274"), ("12, 31", "365"), ("12, 1", "335")),
        generate=lambda rng: (rng.randint(1, 12), rng.randint(1, 28)),
        difficulty=2,
    ),
    problem(
        "minutes_until",
        "Write a function `minutes_until(start, end)` for clock times such as '07:05' (24 hours): it returns "
        "the minutes from `start` to the next time the clock shows `end`, and 0 if both are equal.",
        references=("""
            def minutes_until(start, end):
                hour, minute = int(start[:2]), int(start[3:])
                wanted = (int(end[:2]), int(end[3:]))
                waited = 0
                while (hour, minute) != wanted:
                    waited += 1
                    minute += 1
                    if minute == 60:
                        minute = 0
                        hour = (hour + 1) % 24
                return waited
        """, """
            def minutes_until(start, end):
                def minutes(clock):
                    hour, minute = clock.split(":")
                    return int(hour) * 60 + int(minute)

                return (minutes(end) - minutes(start)) % 1440
        """),
        cases=(("'08:00', '08:00'", "0"), ("'08:00', '08:01'", "1"), ("'08:01', '08:00'", "1439"),
               ("'23:30', '00:15'", "45"), ("'09:50', '17:05'", "435"), ("'00:00', '23:59'", "1439"),
               ("'12:34', '13:00'", "26")),
        generate=lambda rng: (_clock(rng), _clock(rng)),
        difficulty=3,
    ),
    problem(
        "work_days",
        "Weekdays are numbered from 0 for Monday to 6 for Sunday. Write a function `work_days(first, days)` "
        "that counts the days from Monday to Friday among `days` consecutive days beginning with weekday "
        "`first`.",
        references=("""
            def work_days(first, days):
                count = 0
                weekday = first
                for _ in range(days):
                    if weekday < 5:
                        count += 1
                    weekday = (weekday + 1) % 7
                return count
        """, """
            def work_days(first, days):
                week = "1111100" * (days // 7 + 2)
                return week[first : first + days].count("1")
        """, """
            def work_days(first, days):
                weeks, rest = divmod(days, 7)
                return 5 * weeks + sum((first + i) % 7 < 5 for i in range(rest))
        """),
        cases=(("0, 0", "0"), ("0, 5", "5"), ("0, 7", "5"), ("5, 2", "0"), ("4, 3", "1"), ("6, 2", "1"),
               ("3, 10", "7"), ("5, 14", "10"), ("6, 9", "6")),
        generate=lambda rng: (rng.randint(0, 6), rng.randint(0, 25)),
        difficulty=2,
    ),
    problem(
        "join_spans",
        "Write a function `join_spans(spans)` that joins all integer tuples (start, end), start < end, which "
        "overlap or touch, and returns the remaining spans as a list sorted by start.",
        references=("""
            def join_spans(spans):
                joined = []
                for start, end in sorted(spans):
                    if joined and start <= joined[-1][1]:
                        last_start, last_end = joined.pop()
                        joined.append((last_start, max(last_end, end)))
                    else:
                        joined.append((start, end))
                return joined
        """, """
            def join_spans(spans):
                cells = {t for start, end in spans for t in range(start, end)}
                starts = sorted(t for t in cells if t - 1 not in cells)
                ends = sorted(t + 1 for t in cells if t + 1 not in cells)
                return list(zip(starts, ends))
        """),
        cases=(("[]", "[]"), ("[(1, 4)]", "[(1, 4)]"), ("[(5, 6), (1, 2)]", "[(1, 2), (5, 6)]"),
               ("[(1, 3), (2, 5)]", "[(1, 5)]"), ("[(1, 3), (3, 5)]", "[(1, 5)]"),
               ("[(0, 9), (2, 3), (11, 12)]", "[(0, 9), (11, 12)]"), ("[(4, 5), (0, 2), (1, 4)]", "[(0, 5)]"),
               ("[(0, 5), (12, 13), (9, 12), (4, 7)]", "[(0, 7), (9, 13)]")),
        generate=lambda rng: (_intervals(rng),),
        difficulty=4,
    ),
    problem(
        "busiest_count",
        "Guests stay from `start` up to but not including `end`. Write a function `busiest_count(stays)` "
        "that returns the largest number of guests present at the same time for a list of integer tuples "
        "(start, end), start < end; 0 if it is empty.",
        references=("""
            def busiest_count(stays):
                most = 0
                for start, _ in stays:
                    present = 0
                    for other_start, other_end in stays:
                        if other_start <= start < other_end:
                            present += 1
                    most = max(most, present)
                return most
        """, """
            from itertools import accumulate

            def busiest_count(stays):
                events = [(s, 1) for s, _ in stays] + [(e, -1) for _, e in stays]
                return max(accumulate(step for _, step in sorted(events)), default=0)
        """),
        cases=(("[]", "0"), ("[(1, 2)]", "1"), ("[(0, 2), (2, 4)]", "1"), ("[(0, 3), (2, 4)]", "2"),
               ("[(0, 9), (1, 2), (3, 4)]", "2"), ("[(0, 2), (3, 5), (3, 4)]", "2"),
               ("[(5, 8), (5, 6), (4, 7)]", "3"), ("[(1, 3), (1, 3), (3, 5), (2, 4)]", "3")),
        generate=lambda rng: (_intervals(rng, 5, 8),),
        difficulty=4,
    ),
    problem(
        "widest_gap",
        "Write a function `widest_gap(days)` that returns the largest number of whole days strictly between "
        "two neighbouring dates when the different day numbers in `days` (any order, repeats allowed) are "
        "sorted; 0 for fewer than two different days.",
        references=("""
            def widest_gap(days):
                widest = 0
                ordered = sorted(days)
                for i in range(1, len(ordered)):
                    gap = ordered[i] - ordered[i - 1] - 1
                    if gap > widest:
                        widest = gap
                return widest
        """, """
            def widest_gap(days):
                ordered = sorted(set(days))
                return max((b - a - 1 for a, b in zip(ordered, ordered[1:])), default=0)
        """, """
            def widest_gap(days):
                widest = free = 0
                for day in range(min(days, default=0), max(days, default=0)):
                    free = 0 if day in days else free + 1
                    widest = max(widest, free)
                return widest
        """),
        cases=(("[]", "0"), ("[5]", "0"), ("[4, 4]", "0"), ("[1, 2]", "0"), ("[1, 3]", "1"),
               ("[10, 1, 4]", "5"), ("[7, 7, 2, 8]", "4"), ("[3, 9, 6, 3]", "2"), ("[-4, 0]", "3")),
        generate=lambda rng: ([rng.randint(0, 30) for _ in range(rng.randint(0, 6))],),
        difficulty=2,
    ),
]
