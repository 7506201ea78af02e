"""Small worlds played step by step: robots, tanks, queues, lamps."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "simulation"


def _ints(rng: Random, low: int = 0, high: int = 9, longest: int = 7) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(0, longest))]


def _text(rng: Random, letters: str, longest: int = 8) -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randint(0, longest)))


# fmt: off
PROBLEMS = [
    problem(
        "robot_place",
        "A robot starts at (0, 0) facing north (+y). Write a function `robot_place(moves)` for a string of "
        "'F' (one step forward), 'L' and 'R' (turn by a quarter left or right) that returns its final "
        "position as a tuple (x, y).",
        references=("""
            def robot_place(moves):
                x, y = 0, 0
                dx, dy = 0, 1
                for move in moves:
                    if move == "F":
                        x += dx
                        y += dy
                    elif move == "L":
                        dx, dy = -dy, dx
                    else:
                        dx, dy = dy, -dx
                return (x, y)
        """, """
            def robot_place(moves):
                place, heading = 0, 1j
                for move in moves:
                    if move == "F":
                        place += heading
                    heading *= {"F": 1, "L": 1j, "R": -1j}[move]
                return (int(place.real), int(place.imag))
        """, """
            def robot_place(moves):
                counts = [0, 0, 0, 0]
                for i, move in enumerate(moves):
                    turns = moves[:i].count("R") - moves[:i].count("L")
                    counts[turns % 4] += move == "F"
                north, east, south, west = counts
                return (east - west, north - south)
        """),
        cases=(("''", "(0, 0)"), ("'F'", "(0, 1)"), ("'LF'", "(-1, 0)"), ("'RF'", "(1, 0)"),
               ("'RRF'", "(0, -1)"), ("'FFRFFLF'", "(2, 3)"), ("'FLFLFLF'", "(0, 0)"),
               ("'LFFLF'", "(-2, -1)")),
        generate=lambda rng: (_text(rng, "FFLR"),),
        difficulty=3,
    ),
    problem(
        "water_level",
        "A tank holds from 0 to `capacity` litres and starts empty. Write a function `water_level(capacity, "
        "flows)` that adds the integers of `flows` one after the other, where water above `capacity` is lost "
        "and the level never falls below 0, and returns the final level.",
        references=("""
            def water_level(capacity, flows):
                level = 0
                for flow in flows:
                    level += flow
                    if level > capacity:
                        level = capacity
                    if level < 0:
                        level = 0
                return level
        """, """
            from functools import reduce

            def water_level(capacity, flows):
                return reduce(lambda level, flow: max(0, min(capacity, level + flow)), flows, 0)
        """, """
            def water_level(capacity, flows):
                level = 0
                for flow in flows:
                    for _ in range(abs(flow)):
                        if flow > 0 and level < capacity:
                            level += 1
                        if flow < 0 and level > 0:
                            level -= 1
                return level
        """),
        cases=(("5, []", "0"), ("5, [3]", "3"), ("5, [9]", "5"), ("5, [-2]", "0"), ("5, [9, -1]", "4"),
               ("5, [-4, 2]", "2"), ("5, [-1, 3]", "3"), ("3, [2, 2, -1, 1, 1]", "3"),
               ("10, [4, -6, 7, 1]", "8")),
        generate=lambda rng: (rng.randint(1, 9), _ints(rng, -6, 6)),
        difficulty=2,
    ),
    problem(
        "last_in_circle",
        "People numbered 1 to `n` stand in a circle and, counting from person 1, every `k`-th of those left "
        "goes out. Write a function `last_in_circle(n, k)` that returns the number of the last person left "
        "(`n` and `k` at least 1).",
        references=("""
            def last_in_circle(n, k):
                people = list(range(1, n + 1))
                i = 0
                while len(people) > 1:
                    i = (i + k - 1) % len(people)
                    people.pop(i)
                return people[0]
        """, """
            def last_in_circle(n, k):
                place = 0
                for size in range(2, n + 1):
                    place = (place + k) % size
                return place + 1
        """, """
            from collections import deque

            def last_in_circle(n, k):
                circle = deque(range(1, n + 1))
                while len(circle) > 1:
                    circle.rotate(1 - k)
                    circle.popleft()
                return circle[0]
        """),
        cases=(("1, 3", "1"), ("2, 1", "2"), ("2, 2", "1"), ("5, 1", "5"), ("5, 2", "3"), ("7, 3", "4"),
               ("6, 4", "5"), ("10, 2", "5")),
        generate=lambda rng: (rng.randint(1, 12), rng.randint(1, 6)),
        difficulty=4,
    ),
    problem(
        "lamps_lit",
        "Lamps 1 to `n` are off. Write a function `lamps_lit(n, steps)` that, for each positive integer k in "
        "`steps`, switches every lamp whose number is divisible by k (on to off, off to on), and returns how "
        "many lamps are on at the end.",
        references=("""
            def lamps_lit(n, steps):
                lamps = [False] * (n + 1)
                for k in steps:
                    for i in range(k, n + 1, k):
                        lamps[i] = not lamps[i]
                return sum(lamps)
        """, """
            def lamps_lit(n, steps):
                lit = 0
                for lamp in range(1, n + 1):
                    switched = sum(lamp % k == 0 for k in steps)
                    lit += switched % 2
                return lit
        """, """
            def lamps_lit(n, steps):
                lit = set()
                for k in steps:
                    lit ^= set(range(k, n + 1, k))
                return len(lit)
        """),
        cases=(("0, [1]", "0"), ("5, []", "0"), ("5, [1]", "5"), ("5, [2]", "2"), ("6, [1, 2]", "3"),
               ("6, [2, 3]", "3"), ("4, [9]", "0"), ("10, [2, 2]", "0"), ("8, [4, 1, 3]", "4"),
               ("6, [3]", "2")),
        generate=lambda rng: (rng.randint(0, 15), _ints(rng, 1, 6, 4)),
        difficulty=3,
    ),
    problem(
        "lift_distance",
        "A lift begins on floor `start`. Write a function `lift_distance(start, stops)` that returns how "
        "many floors it passes in total when it visits the floors of `stops` in the given order.",
        references=("""
            def lift_distance(start, stops):
                floor = start
                total = 0
                for stop in stops:
                    if stop > floor:
                        total += stop - floor
                    else:
                        total += floor - stop
                    floor = stop
                return total
        """, """
            def lift_distance(start, stops):
                return sum(abs(a - b) for a, b in zip([start, *stops], stops))
        """),
        cases=(("0, []", "0"), ("3, [3]", "0"), ("0, [5]", "5"), ("5, [2]", "3"), ("1, [4, 2]", "5"),
               ("-1, [3, 3, 0]", "7"), ("2, [0, 6, -2]", "16")),
        generate=lambda rng: (rng.randint(-2, 9), _ints(rng, -2, 9, 5)),
        difficulty=1,
    ),
    problem(
        "finish_time",
        "Jobs are handed out in the given order; each goes to the worker who is free first. Write a function "
        "`finish_time(jobs, workers)` that returns when the last job ends, all `workers` (at least 1) being "
        "free at time 0 and `jobs` holding durations; no jobs give 0.",
        references=("""
            def finish_time(jobs, workers):
                free_at = [0] * workers
                for job in jobs:
                    first = free_at.index(min(free_at))
                    free_at[first] += job
                return max(free_at)
        """, """
            def finish_time(jobs, workers):
                now = 0
                running = []
                waiting = list(jobs)
                while waiting or running:
                    running = [left - 1 for left in running if left > 1]
                    while waiting and len(running) < workers:
                        running.append(waiting.pop(0))
                    now += bool(running)
                return now
        """),
        cases=(("[], 2", "0"), ("[4], 1", "4"), ("[4, 3], 1", "7"), ("[4, 3], 2", "4"), ("[2, 2, 2], 2", "4"),
               ("[5, 1, 1, 1], 2", "5"), ("[3, 1, 4, 1, 5], 2", "9"), ("[1, 2], 5", "2"),
               ("[6, 2, 3, 4], 3", "6")),
        generate=lambda rng: (_ints(rng, 1, 6), rng.randint(1, 3)),
        difficulty=4,
    ),
    problem(
        "cell_rule",
        "Write a function `cell_rule(cells)` for a string of '#' and '.': in the result a position is '#' "
        "exactly if one, but not both, of its two neighbours in `cells` is '#', where neighbours outside the "
        "string count as '.'.",
        references=("""
            def cell_rule(cells):
                out = ""
                for i in range(len(cells)):
                    left = i > 0 and cells[i - 1] == "#"
                    right = i < len(cells) - 1 and cells[i + 1] == "#"
                    if left != right:
                        out += "#"
                    else:
                        out += "."
                return out
        """, """
            def cell_rule(cells):
                padded = "." + cells + "."
                return "".join(".#"[a != b] for a, b in zip(padded, padded[2:]))
        """),
        cases=(("''", "''"), ("'#'", "'.'"), ("'##'", "'##'"), ("'#.'", "'.#'"), ("'#.#'", "'...'"),
               ("'..#..'", "'.#.#.'"), ("'##.#'", "'##..'"), ("'.###'", "'##.#'")),
        generate=lambda rng: (_text(rng, "#."),),
        difficulty=3,
    ),
    problem(
        "parked_cars",
        "A car park has `spaces` places and is empty. Write a function `parked_cars(spaces, events)` for a "
        "string of 'i' (a car wants in, and leaves for good if all is full) and 'o' (a car goes out, nothing "
        "happens if there is none) that returns the tuple (cars inside at the end, cars turned away).",
        references=("""
            def parked_cars(spaces, events):
                inside = 0
                turned_away = 0
                for event in events:
                    if event == "o":
                        if inside > 0:
                            inside -= 1
                    elif inside == spaces:
                        turned_away += 1
                    else:
                        inside += 1
                return (inside, turned_away)
        """, """
            def parked_cars(spaces, events, inside=0):
                if not events:
                    return (inside, 0)
                if events[0] == "o":
                    return parked_cars(spaces, events[1:], max(0, inside - 1))
                full = inside >= spaces
                last, away = parked_cars(spaces, events[1:], inside + (not full))
                return (last, away + full)
        """),
        cases=(("2, ''", "(0, 0)"), ("2, 'i'", "(1, 0)"), ("0, 'i'", "(0, 1)"), ("1, 'ii'", "(1, 1)"),
               ("1, 'oi'", "(1, 0)"), ("2, 'iiioi'", "(2, 1)"), ("1, 'iioio'", "(0, 1)"),
               ("3, 'ooiiiio'", "(2, 1)")),
        generate=lambda rng: (rng.randint(0, 3), _text(rng, "iio", 9)),
        difficulty=3,
    ),
    problem(
        "bouncing_ball",
        "A ball rolls on the places 0 to `length` (at least 1), starting at 0 to the right; at each end it "
        "turns round. Write a function `bouncing_ball(length, steps)` that returns its place after `steps` "
        "steps of one place each.",
        references=("""
            def bouncing_ball(length, steps):
                place = 0
                direction = 1
                for _ in range(steps):
                    place += direction
                    if place == length:
                        direction = -1
                    elif place == 0:
                        direction = 1
                return place
        """, """
            def bouncing_ball(length, steps):
                return length - abs(length - steps % (2 * length))
        """, """
            def bouncing_ball(length, steps):
                trips, rest = divmod(steps, length)
                return rest if trips % 2 == 0 else length - rest
        """),
        cases=(("1, 0", "0"), ("1, 1", "1"), ("1, 2", "0"), ("3, 2", "2"), ("3, 3", "3"), ("3, 4", "2"),
               ("3, 6", "0"), ("3, 7", "1"), ("5, 23", "3")),
        generate=lambda rng: (rng.randint(1, 6), rng.randint(0, 25)),
        difficulty=2,
    ),
]
