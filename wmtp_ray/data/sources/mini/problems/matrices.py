"""Matrices as lists of rows: sums, turns, borders, neighbours."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "matrices"


def _matrix(rng: Random, rows: int, columns: int, low: int = 0, high: int = 9) -> list[list[int]]:
    return [[rng.randint(low, high) for _ in range(columns)] for _ in range(rows)]


def _any(rng: Random, low: int = 0, high: int = 9) -> list[list[int]]:
    return _matrix(rng, rng.randint(1, 4), rng.randint(1, 4), low, high)


def _square(rng: Random, low: int = 0, high: int = 9) -> list[list[int]]:
    size = rng.randint(1, 4)
    return _matrix(rng, size, size, low, high)


# fmt: off
PROBLEMS = [
    problem(
        "diagonal_balance",
        "Write a function `diagonal_balance(m)` for a square matrix `m` (a non-empty list of rows): the sum "
        "of the diagonal from the top left minus the sum of the diagonal from the top right.",
        references=("""
            def diagonal_balance(m):
                balance = 0
                for i in range(len(m)):
                    balance += m[i][i]
                    balance -= m[i][len(m) - 1 - i]
                return balance
        """, """
            def diagonal_balance(m):
                return sum(row[i] - row[-1 - i] for i, row in enumerate(m))
        """),
        cases=(("[[5]]", "0"), ("[[1, 2], [3, 4]]", "0"), ("[[9, 1], [2, 4]]", "10"),
               ("[[1, 0, 0], [0, 1, 0], [0, 0, 1]]", "2"), ("[[0, 0, 7], [0, 3, 0], [2, 0, 1]]", "-8"),
               ("[[2, 2], [2, 2]]", "0"), ("[[1, 2, 3], [4, 5, 6], [7, 8, 0]]", "-9")),
        generate=lambda rng: (_square(rng),),
        difficulty=2,
    ),
    problem(
        "turn_clockwise",
        "Write a function `turn_clockwise(m)` that turns the non-empty rectangular matrix `m` (list of rows) "
        "by a quarter clockwise and returns it as a new list of rows.",
        references=("""
            def turn_clockwise(m):
                out = []
                for c in range(len(m[0])):
                    row = []
                    for r in range(len(m) - 1, -1, -1):
                        row.append(m[r][c])
                    out.append(row)
                return out
        """, """
            def turn_clockwise(m):
                return [list(column) for column in zip(*m[::-1])]
        """),
        cases=(("[[1]]", "[[1]]"), ("[[1, 2]]", "[[1], [2]]"), ("[[1], [2]]", "[[2, 1]]"),
               ("[[1, 2], [3, 4]]", "[[3, 1], [4, 2]]"),
               ("[[1, 2, 3], [4, 5, 6]]", "[[4, 1], [5, 2], [6, 3]]"),
               ("[[1, 2], [3, 4], [5, 6]]", "[[5, 3, 1], [6, 4, 2]]")),
        generate=lambda rng: (_any(rng),),
        difficulty=3,
    ),
    problem(
        "column_maxima",
        "Write a function `column_maxima(m)` that returns the list of the largest elements of the columns of "
        "the non-empty rectangular matrix `m` (list of rows), from left to right.",
        references=("""
            def column_maxima(m):
                best = list(m[0])
                for row in m[1:]:
                    for c in range(len(row)):
                        if row[c] > best[c]:
                            best[c] = row[c]
                return best
        """, """
            def column_maxima(m):
                return [max(column) for column in zip(*m)]
        """),
        cases=(("[[3]]", "[3]"), ("[[1, 2]]", "[1, 2]"), ("[[1], [5], [2]]", "[5]"),
               ("[[1, 9], [4, 3]]", "[4, 9]"), ("[[-1, -2], [-3, -1]]", "[-1, -1]"),
               ("[[0, 7, 2], [5, 1, 8], [3, 3, 3]]", "[5, 7, 8]")),
        generate=lambda rng: (_any(rng, -9, 9),),
        difficulty=1,
    ),
    problem(
        "rim_sum",
        "Write a function `rim_sum(m)` that adds up all elements in the first or last row or the first or "
        "last column of the non-empty rectangular matrix `m`, each element once.",
        references=("""
            def rim_sum(m):
                total = 0
                for r in range(len(m)):
                    for c in range(len(m[0])):
                        if r in (0, len(m) - 1) or c in (0, len(m[0]) - 1):
                            total += m[r][c]
                return total
        """, """
            def rim_sum(m):
                inner = sum(sum(row[1:-1]) for row in m[1:-1])
                return sum(map(sum, m)) - inner
        """),
        cases=(("[[4]]", "4"), ("[[1, 2, 3]]", "6"), ("[[1], [2], [3]]", "6"), ("[[1, 2], [3, 4]]", "10"),
               ("[[1, 1, 1], [1, 9, 1], [1, 1, 1]]", "8"),
               ("[[1, 2, 3, 4], [5, 6, 7, 8], [9, 1, 2, 3]]", "38"), ("[[1, 0], [5, 6], [0, 2]]", "14")),
        generate=lambda rng: (_any(rng, 1, 9),),
        difficulty=3,
    ),
    problem(
        "mirror_square",
        "Write a function `mirror_square(m)` that tells whether the square matrix `m` (a non-empty list of "
        "rows) stays the same when rows and columns are exchanged.",
        references=("""
            def mirror_square(m):
                for r in range(len(m)):
                    for c in range(r):
                        if m[r][c] != m[c][r]:
                            return False
                return True
        """, """
            def mirror_square(m):
                return [list(column) for column in zip(*m)] == m
        """),
        cases=(("[[7]]", "True"), ("[[1, 2], [2, 1]]", "True"), ("[[1, 2], [3, 1]]", "False"),
               ("[[1, 2, 3], [2, 5, 6], [3, 6, 9]]", "True"), ("[[1, 2, 3], [2, 5, 6], [3, 7, 9]]", "False"),
               ("[[0, 0, 1], [0, 0, 0], [0, 0, 0]]", "False"), ("[[4, 0], [0, 8]]", "True")),
        generate=lambda rng: (_square(rng, 0, rng.choice((0, 1))),),
        difficulty=2,
    ),
    problem(
        "snake_reading",
        "Write a function `snake_reading(m)` that reads the rows of the matrix `m` (a list of rows, possibly "
        "empty) from top to bottom into one list, the first row left to right, the next right to left, and "
        "so on in turn.",
        references=("""
            def snake_reading(m):
                out = []
                forward = True
                for row in m:
                    if forward:
                        out.extend(row)
                    else:
                        out.extend(reversed(row))
                    forward = not forward
                return out
        """, """
            def snake_reading(m):
                turned = [row[::-1] if i % 2 else row for i, row in enumerate(m)]
                return sum(turned, [])
        """),
        cases=(("[]", "[]"), ("[[1]]", "[1]"), ("[[1, 2], [3, 4]]", "[1, 2, 4, 3]"),
               ("[[1], [2], [3]]", "[1, 2, 3]"),
               ("[[1, 2, 3], [4, 5, 6], [7, 8, 9]]", "[1, 2, 3, 6, 5, 4, 7, 8, 9]"),
               ("[[0, 5], [5, 0], [1, 2], [3, 4]]", "[0, 5, 0, 5, 1, 2, 4, 3]")),
        generate=lambda rng: (_any(rng),),
        difficulty=2,
    ),
    problem(
        "neighbour_sum",
        "Write a function `neighbour_sum(m, r, c)` that adds up the elements directly above, below, left and "
        "right of row `r`, column `c` (0-based, inside) of the rectangular matrix `m`; those outside `m` do "
        "not count.",
        references=("""
            def neighbour_sum(m, r, c):
                total = 0
                for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                    y, x = r + dr, c + dc
                    if 0 <= y < len(m) and 0 <= x < len(m[0]):
                        total += m[y][x]
                return total
        """, """
            def neighbour_sum(m, r, c):
                total = 0
                for y, row in enumerate(m):
                    for x, value in enumerate(row):
                        if abs(y - r) + abs(x - c) == 1:
                            total += value
                return total
        """),
        cases=(("[[5]], 0, 0", "0"), ("[[1, 2], [3, 4]], 0, 0", "5"), ("[[1, 2], [3, 4]], 1, 1", "5"),
               ("[[1, 2, 3], [4, 5, 6], [7, 8, 9]], 1, 1", "20"),
               ("[[1, 2, 3], [4, 5, 6], [7, 8, 9]], 0, 1", "9"),
               ("[[1, 2, 3], [4, 5, 6], [7, 8, 9]], 2, 0", "12"), ("[[1, 7, 2]], 0, 2", "7"),
               ("[[6], [3], [1]], 1, 0", "7"), ("[[1, 2, 3], [4, 5, 6], [7, 8, 9]], 1, 2", "17")),
        generate=lambda rng: (_matrix(rng, 3, 3, 1, 9), rng.randint(0, 2), rng.randint(0, 2)),
        difficulty=4,
    ),
    problem(
        "weigh_rows",
        "Write a function `weigh_rows(m, weights)` that returns for each row of the rectangular matrix `m` "
        "the sum of its elements multiplied by the integers of `weights` at the same positions.",
        references=("""
            def weigh_rows(m, weights):
                sums = []
                for row in m:
                    total = 0
                    for i in range(len(weights)):
                        total += row[i] * weights[i]
                    sums.append(total)
                return sums
        """, """
            def weigh_rows(m, weights):
                return [sum(a * b for a, b in zip(row, weights)) for row in m]
        """),
        cases=(("[[3]], [2]", "[6]"), ("[[1, 2]], [3, 4]", "[11]"), ("[[1, 2], [3, 4]], [1, 0]", "[1, 3]"),
               ("[[1, 2], [3, 4]], [-1, 1]", "[1, 1]"), ("[[1], [2], [3]], [5]", "[5, 10, 15]"),
               ("[[1, 2, 3], [0, 0, 4]], [3, 1, 2]", "[11, 8]")),
        generate=lambda rng: (_matrix(rng, rng.randint(1, 4), 3, -3, 5), _matrix(rng, 1, 3, -2, 4)[0]),
        difficulty=2,
    ),
    problem(
        "slanted_sums",
        "Write a function `slanted_sums(m)` for a non-empty rectangular matrix `m`: element number k of the "
        "result is the sum of all elements whose row index plus column index is k.",
        references=("""
            def slanted_sums(m):
                sums = [0] * (len(m) + len(m[0]) - 1)
                for r in range(len(m)):
                    for c in range(len(m[0])):
                        sums[r + c] += m[r][c]
                return sums
        """, """
            def slanted_sums(m):
                rows, cols = len(m), len(m[0])
                return [
                    sum(m[r][k - r] for r in range(rows) if 0 <= k - r < cols)
                    for k in range(rows + cols - 1)
                ]
        """),
        cases=(("[[4]]", "[4]"), ("[[1, 2]]", "[1, 2]"), ("[[1], [2]]", "[1, 2]"),
               ("[[1, 2], [3, 4]]", "[1, 5, 4]"), ("[[1, 2, 3], [4, 5, 6]]", "[1, 6, 8, 6]"),
               ("[[1, 1], [1, 1], [1, 1]]", "[1, 2, 2, 1]"),
               ("[[0, 1, 2], [3, 4, 5], [6, 7, 8]]", "[0, 4, 12, 12, 8]")),
        generate=lambda rng: (_any(rng, -3, 9),),
        difficulty=4,
    ),
]
