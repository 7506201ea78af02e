"""Binary digits of non-negative integers."""

from __future__ import annotations

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "bits"

# fmt: off
PROBLEMS = [
    problem(
        "longest_one_run",
        "Write a function `longest_one_run(n)` that returns the length of the longest block of neighbouring "
        "ones in the binary form of the non-negative integer `n`.",
        references=("""
            def longest_one_run(n):
                best = 0
                run = 0
                while n > 0:
                    if n % 2 == 1:
                        run += 1
                        best = max(best, run)
                    else:
                        run = 0
                    n //= 2
                return best
        """, """
            def longest_one_run(n):
                return max(map(len, bin(n)[2:].split("0")))
        """, """
            def longest_one_run(n):
                steps = 0
                while n:
                    n &= n << 1
                    steps += 1
                return steps
        """),
        cases=(("0", "0"), ("1", "1"), ("4", "1"), ("6", "2"), ("11", "2"), ("29", "3"), ("119", "3"),
               ("255", "8"), ("187", "3")),
        generate=lambda rng: (rng.getrandbits(rng.randint(1, 12)),),
        difficulty=2,
    ),
    problem(
        "halvings",
        "Write a function `halvings(n)` that returns how many zeros stand at the right end of the binary "
        "form of the positive integer `n`.",
        references=("""
            def halvings(n):
                count = 0
                while n % 2 == 0:
                    n //= 2
                    count += 1
                return count
        """, """
            def halvings(n):
                text = bin(n)
                return len(text) - len(text.rstrip("0"))
        """, """
            def halvings(n):
                return (n & -n).bit_length() - 1
        """),
        cases=(("1", "0"), ("2", "1"), ("3", "0"), ("12", "2"), ("40", "3"), ("64", "6"), ("100", "2"),
               ("96", "5")),
        generate=lambda rng: (rng.randint(1, 30) << rng.randint(0, 5),),
        difficulty=1,
    ),
    problem(
        "mirror_bits",
        "Write a function `mirror_bits(n, width)` that writes the non-negative integer `n` with exactly "
        "`width` binary digits (it fits; `width` is at least 1), reverses their order and returns the number "
        "they then form.",
        references=("""
            def mirror_bits(n, width):
                result = 0
                for _ in range(width):
                    result = result * 2 + n % 2
                    n //= 2
                return result
        """, """
            def mirror_bits(n, width):
                return int(format(n, f"0{width}b")[::-1], 2)
        """, """
            def mirror_bits(n, width):
                return sum(1 << (width - 1 - i) for i in range(width) if n >> i & 1)
        """),
        cases=(("0, 1", "0"), ("1, 1", "1"), ("1, 4", "8"), ("6, 3", "3"), ("6, 4", "6"), ("13, 5", "22"),
               ("255, 8", "255"), ("10, 4", "5")),
        generate=lambda rng: (rng.getrandbits(5), rng.randint(5, 9)),
        difficulty=2,
    ),
    problem(
        "bit_distance",
        "Write a function `bit_distance(a, b)` that counts the places at which the binary forms of the "
        "non-negative integers `a` and `b` differ, when the shorter one is filled up with zeros on the left.",
        references=("""
            def bit_distance(a, b):
                count = 0
                while a > 0 or b > 0:
                    if a % 2 != b % 2:
                        count += 1
                    a //= 2
                    b //= 2
                return count
        """, """
            def bit_distance(a, b):
                return bin(a ^ b).count("1")
        """, """
            def bit_distance(a, b):
                n = max(a, b).bit_length()
                return sum(x != y for x, y in zip(f"{a:0{n}b}", f"{b:0{n}b}"))
        """),
        cases=(("0, 0", "0"), ("0, 1", "1"), ("5, 5", "0"), ("1, 2", "2"), ("7, 0", "3"), ("8, 7", "4"),
               ("12, 10", "2"), ("1, 100", "4")),
        generate=lambda rng: (rng.getrandbits(rng.randint(1, 8)), rng.getrandbits(rng.randint(1, 8))),
        difficulty=2,
    ),
    problem(
        "top_power",
        "Write a function `top_power(n)` that returns the largest power of two that is not larger than the "
        "positive integer `n`.",
        references=("""
            def top_power(n):
                power = 1
                while power * 2 <= n:
                    power *= 2
                return power
        """, """
            def top_power(n):
                return 1 << (n.bit_length() - 1)
        """, """
            def top_power(n):
                while n & (n - 1):
                    n &= n - 1
                return n
        """),
        cases=(("1", "1"), ("2", "2"), ("3", "2"), ("4", "4"), ("7", "4"), ("8", "8"), ("100", "64"),
               ("1023", "512")),
        generate=lambda rng: (rng.randint(1, 2 ** rng.randint(1, 10)),),
        difficulty=1,
    ),
    problem(
        "one_places",
        "Write a function `one_places(n)` that lists the positions of the ones in the binary form of the "
        "non-negative integer `n` in ascending order, where the rightmost digit has position 0.",
        references=("""
            def one_places(n):
                places = []
                place = 0
                while n > 0:
                    if n % 2 == 1:
                        places.append(place)
                    n //= 2
                    place += 1
                return places
        """, """
            def one_places(n):
                return [i for i in range(n.bit_length()) if n >> i & 1]
        """, """
            def one_places(n):
                return [i for i, c in enumerate(reversed(bin(n))) if c == "1"]
        """),
        cases=(("0", "[]"), ("1", "[0]"), ("2", "[1]"), ("5", "[0, 2]"), ("8", "[3]"), ("22", "[1, 2, 4]"),
               ("255", "[0, 1, 2, 3, 4, 5, 6, 7]")),
        generate=lambda rng: (rng.getrandbits(rng.randint(1, 10)),),
        difficulty=2,
    ),
    problem(
        "inner_zero_run",
        "Write a function `inner_zero_run(n)` that returns the length of the longest block of zeros which "
        "has a one directly on both sides in the binary form of the non-negative integer `n`; 0 if there is "
        "none.",
        references=("""
            def inner_zero_run(n):
                best = 0
                run = None
                for digit in bin(n)[2:]:
                    if digit == "1":
                        if run is not None:
                            best = max(best, run)
                        run = 0
                    elif run is not None:
                        run += 1
                return best
        """, """
            def inner_zero_run(n):
                return max(map(len, bin(n)[2:].strip("0").split("1")))
        """, """
            def inner_zero_run(n):
                ones = [i for i in range(n.bit_length()) if n >> i & 1]
                return max((b - a - 1 for a, b in zip(ones, ones[1:])), default=0)
        """),
        cases=(("0", "0"), ("1", "0"), ("3", "0"), ("5", "1"), ("8", "0"), ("9", "2"), ("20", "1"),
               ("529", "4"), ("328", "2"), ("137", "3")),
        generate=lambda rng: (rng.getrandbits(8) & rng.getrandbits(8) | 2 ** rng.randint(0, 9),),
        difficulty=3,
    ),
    problem(
        "wheel_bits",
        "Write a function `wheel_bits(n, k, width)` that writes `n` (non-negative, it fits) with exactly "
        "`width` binary digits (at least 1), moves the leftmost digit to the right end `k` times in a row "
        "and returns the number.",
        references=("""
            def wheel_bits(n, k, width):
                top = 1 << (width - 1)
                for _ in range(k):
                    if n >= top:
                        n = (n - top) * 2 + 1
                    else:
                        n *= 2
                return n
        """, """
            def wheel_bits(n, k, width):
                digits = format(n, f"0{width}b")
                cut = k % width
                return int(digits[cut:] + digits[:cut], 2)
        """, """
            def wheel_bits(n, k, width):
                k %= width
                return (n << k | n >> (width - k)) & ((1 << width) - 1)
        """),
        cases=(("0, 3, 4", "0"), ("1, 1, 1", "1"), ("1, 1, 4", "2"), ("8, 1, 4", "1"), ("12, 2, 4", "3"),
               ("5, 0, 3", "5"), ("6, 4, 3", "5"), ("19, 7, 5", "14")),
        generate=lambda rng: (rng.getrandbits(4), rng.randint(0, 9), rng.randint(4, 7)),
        difficulty=4,
    ),
    problem(
        "clear_low_ones",
        "Write a function `clear_low_ones(n, k)` that turns the `k` rightmost ones in the binary form of the "
        "non-negative integer `n` into zeros and returns the result; if there are fewer than `k` ones it is "
        "0.",
        references=("""
            def clear_low_ones(n, k):
                bit = 1
                while bit <= n and k > 0:
                    if n & bit:
                        n -= bit
                        k -= 1
                    bit *= 2
                return n
        """, """
            def clear_low_ones(n, k):
                for _ in range(k):
                    n &= max(n - 1, 0)
                return n
        """, """
            def clear_low_ones(n, k):
                ones = [2**i for i in range(n.bit_length()) if n >> i & 1]
                return sum(ones[k:])
        """),
        cases=(("0, 2", "0"), ("1, 1", "0"), ("7, 0", "7"), ("7, 1", "6"), ("7, 2", "4"), ("7, 3", "0"),
               ("7, 5", "0"), ("20, 1", "16"), ("43, 2", "40"), ("255, 4", "240")),
        generate=lambda rng: (rng.getrandbits(rng.randint(1, 9)), rng.randint(0, 3)),
        difficulty=3,
    ),
]
