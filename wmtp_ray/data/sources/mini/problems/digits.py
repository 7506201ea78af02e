"""Decimal digits of non-negative integers: walking, removing, reordering them."""

from __future__ import annotations

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "digits"

# fmt: off
PROBLEMS = [
    problem(
        "even_digit_sum",
        "Write a function `even_digit_sum(n)` that adds up only the even decimal digits of the non-negative "
        "integer `n`; the result is 0 when there are none.",
        references=("""
            def even_digit_sum(n):
                total = 0
                while n > 0:
                    digit = n % 10
                    if digit % 2 == 0:
                        total += digit
                    n //= 10
                return total
        """, """
            def even_digit_sum(n):
                return sum(int(c) for c in str(n) if c in "02468")
        """),
        cases=(("0", "0"), ("7", "0"), ("8", "8"), ("1234", "6"), ("13579", "0"), ("80062", "16"),
               ("246813", "20")),
        generate=lambda rng: (rng.randint(0, 10**6),),
        difficulty=1,
    ),
    problem(
        "alternating_digits",
        "Write a function `alternating_digits(n)` for a non-negative integer `n`: starting with the leftmost "
        "digit, add the first digit, subtract the second, add the third and so on, and return the result.",
        references=("""
            def alternating_digits(n):
                result = 0
                sign = 1
                for c in str(n):
                    result += sign * int(c)
                    sign = -sign
                return result
        """, """
            def alternating_digits(n):
                text = str(n)
                return sum(map(int, text[::2])) - sum(map(int, text[1::2]))
        """, """
            def alternating_digits(n):
                result = 0
                while n > 0:
                    result = n % 10 - result
                    n //= 10
                return result
        """),
        cases=(("0", "0"), ("5", "5"), ("19", "-8"), ("91", "8"), ("123", "2"), ("9080", "17"),
               ("70605", "18")),
        generate=lambda rng: (rng.randint(0, 10**rng.randint(1, 7)),),
        difficulty=2,
    ),
    problem(
        "digit_descents",
        "Write a function `digit_descents(n)` that counts the neighbouring digit pairs of the non-negative "
        "integer `n` in which the left digit is strictly larger than the right one.",
        references=("""
            def digit_descents(n):
                count = 0
                right = n % 10
                n //= 10
                while n > 0:
                    left = n % 10
                    if left > right:
                        count += 1
                    right = left
                    n //= 10
                return count
        """, """
            def digit_descents(n):
                text = str(n)
                return sum(a > b for a, b in zip(text, text[1:]))
        """),
        cases=(("0", "0"), ("10", "1"), ("12", "0"), ("33", "0"), ("3210", "3"), ("15243", "2"),
               ("100200", "2")),
        generate=lambda rng: (rng.randint(0, 10**rng.randint(2, 8)),),
        difficulty=2,
    ),
    problem(
        "drop_digit",
        "Write a function `drop_digit(n, d)` that deletes every occurrence of the digit `d` from the decimal "
        "form of the non-negative integer `n` and returns the remaining integer, or 0 if no digit remains.",
        references=("""
            def drop_digit(n, d):
                result = 0
                place = 1
                while n > 0:
                    digit = n % 10
                    if digit != d:
                        result += digit * place
                        place *= 10
                    n //= 10
                return result
        """, """
            def drop_digit(n, d):
                rest = str(n).replace(str(d), "")
                return int(rest) if rest else 0
        """, """
            def drop_digit(n, d):
                if n == 0:
                    return 0
                head = drop_digit(n // 10, d)
                return head if n % 10 == d else head * 10 + n % 10
        """),
        cases=(("0, 0", "0"), ("0, 4", "0"), ("7, 7", "0"), ("5051, 5", "1"), ("1203040, 0", "1234"),
               ("98989, 9", "88"), ("123, 4", "123"), ("6160, 6", "10")),
        generate=lambda rng: (rng.randint(0, 10**6), rng.randint(0, 9)),
        difficulty=2,
    ),
    problem(
        "widest_digit_step",
        "Write a function `widest_digit_step(n)` that returns the largest absolute difference between two "
        "neighbouring digits of the non-negative integer `n`; a one-digit number gives 0.",
        references=("""
            def widest_digit_step(n):
                widest = 0
                while n >= 10:
                    step = abs(n % 10 - n // 10 % 10)
                    if step > widest:
                        widest = step
                    n //= 10
                return widest
        """, """
            def widest_digit_step(n):
                digits = [int(c) for c in str(n)]
                return max((abs(a - b) for a, b in zip(digits, digits[1:])), default=0)
        """),
        cases=(("0", "0"), ("9", "0"), ("10", "1"), ("19", "8"), ("5555", "0"), ("1928", "8"), ("40613", "6"),
               ("12", "1"), ("900", "9")),
        generate=lambda rng: (rng.randint(0, 10**rng.randint(1, 7)),),
        difficulty=2,
    ),
    problem(
        "swap_end_digits",
        "Write a function `swap_end_digits(n)` that exchanges the first and the last digit of the "
        "non-negative integer `n` and returns the new integer; leading zeros vanish and one-digit numbers "
        "stay as they are.",
        references=("""
            def swap_end_digits(n):
                place = 1
                while place * 10 <= n:
                    place *= 10
                if place == 1:
                    return n
                first = n // place
                last = n % 10
                return n + (last - first) * place + first - last
        """, """
            def swap_end_digits(n):
                text = str(n)
                if len(text) < 2:
                    return n
                return int(text[-1] + text[1:-1] + text[0])
        """),
        cases=(("0", "0"), ("8", "8"), ("10", "1"), ("12", "21"), ("100", "1"), ("4567", "7564"),
               ("90210", "219"), ("99", "99")),
        generate=lambda rng: (rng.randint(0, 10**rng.randint(1, 6)),),
        difficulty=3,
    ),
    problem(
        "square_digit_steps",
        "Replacing a number by the sum of the squares of its digits is one step. Write a function "
        "`square_digit_steps(n)` that counts the steps from the non-negative integer `n` until it is below "
        "10.",
        references=("""
            def square_digit_steps(n):
                steps = 0
                while n >= 10:
                    total = 0
                    while n > 0:
                        total += (n % 10) ** 2
                        n //= 10
                    n = total
                    steps += 1
                return steps
        """, """
            def square_digit_steps(n):
                if n < 10:
                    return 0
                return 1 + square_digit_steps(sum(int(c) ** 2 for c in str(n)))
        """),
        cases=(("0", "0"), ("9", "0"), ("10", "1"), ("19", "4"), ("89", "4"), ("100", "1"), ("37", "6")),
        generate=lambda rng: (rng.randint(0, 5000),),
        difficulty=3,
    ),
    problem(
        "best_digit_cut",
        "Cut the decimal digits of the integer `n` (at least 10) into a non-empty left and right part. Write "
        "a function `best_digit_cut(n)` that returns the largest sum of the two parts, each read as a "
        "number.",
        references=("""
            def best_digit_cut(n):
                best = 0
                place = 10
                while place <= n:
                    total = n // place + n % place
                    if total > best:
                        best = total
                    place *= 10
                return best
        """, """
            def best_digit_cut(n):
                text = str(n)
                return max(int(text[:i]) + int(text[i:]) for i in range(1, len(text)))
        """),
        cases=(("10", "1"), ("99", "18"), ("109", "19"), ("199", "100"), ("1234", "235"), ("9001", "901"),
               ("1000", "100"), ("10999", "1108")),
        generate=lambda rng: (rng.randint(10, 10**rng.randint(2, 6)),),
        difficulty=3,
    ),
    problem(
        "digits_ordered_merge",
        "Write a function `digits_ordered_merge(a, b)` that puts all decimal digits of the non-negative "
        "integers `a` and `b` together and returns the largest integer that uses each of them exactly once.",
        references=("""
            def digits_ordered_merge(a, b):
                result = 0
                for digit in range(9, -1, -1):
                    for c in str(a) + str(b):
                        if int(c) == digit:
                            result = result * 10 + digit
                return result
        """, """
            def digits_ordered_merge(a, b):
                return int("".join(sorted(f"{a}{b}", reverse=True)))
        """),
        cases=(("0, 0", "0"), ("0, 5", "50"), ("12, 34", "4321"), ("909, 10", "99100"), ("7, 77", "777"),
               ("120, 3", "3210")),
        generate=lambda rng: (rng.randint(0, 2000), rng.randint(0, 500)),
        difficulty=3,
    ),
]
