"""Single characters: vowels, letter case, places in the alphabet."""

from __future__ import annotations

from random import Random

from wmtp_ray.data.sources.mini.spec import problem

FAMILY = "characters"


def _text(rng: Random, letters: str, longest: int = 8) -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randint(0, longest)))


# fmt: off
PROBLEMS = [
    problem(
        "vowel_surplus",
        "Write a function `vowel_surplus(word)` that returns the number of vowels (a, e, i, o, u) minus the "
        "number of other characters in the lowercase string `word`.",
        references=("""
            def vowel_surplus(word):
                surplus = 0
                for c in word:
                    if c in "aeiou":
                        surplus += 1
                    else:
                        surplus -= 1
                return surplus
        """, """
            def vowel_surplus(word):
                vowels = sum(word.count(v) for v in "aeiou")
                return 2 * vowels - len(word)
        """),
        cases=(("''", "0"), ("'a'", "1"), ("'b'", "-1"), ("'aeiou'", "5"), ("'banana'", "0"),
               ("'rhythm'", "-6"), ("'queue'", "3")),
        generate=lambda rng: (_text(rng, "aeioubcdy"),),
        difficulty=1,
    ),
    problem(
        "shift_letters",
        "Write a function `shift_letters(s, k)` that moves every lowercase letter of `s` by `k` places along "
        "the alphabet, going round from z to a; `k` may be negative and all other characters stay as they "
        "are.",
        references=("""
            def shift_letters(s, k):
                out = ""
                for c in s:
                    if "a" <= c <= "z":
                        place = (ord(c) - ord("a") + k) % 26
                        out += chr(ord("a") + place)
                    else:
                        out += c
                return out
        """, """
            def shift_letters(s, k):
                letters = "abcdefghijklmnopqrstuvwxyz"
                k %= 26
                return s.translate(str.maketrans(letters, letters[k:] + letters[:k]))
        """),
        cases=(("'', 4", "''"), ("'abc', 1", "'bcd'"), ("'xyz', 2", "'zab'"), ("'a', -1", "'z'"),
               ("'Zoo!', 1", "'Zpp!'"), ("'m n', 27", "'n o'"), ("'az', 0", "'az'"), ("'a{`z', 3", "'d{`c'")),
        generate=lambda rng: (_text(rng, "abmyzAZ !"), rng.randint(-30, 30)),
        difficulty=2,
    ),
    problem(
        "hide_digits",
        "Write a function `hide_digits(s)` that replaces every digit 0 to 9 in `s` by '#', except for the "
        "last digit of the string, which stays visible.",
        references=("""
            def hide_digits(s):
                out = ""
                seen = False
                for c in reversed(s):
                    if "0" <= c <= "9":
                        out = ("#" if seen else c) + out
                        seen = True
                    else:
                        out = c + out
                return out
        """, """
            def hide_digits(s):
                places = [i for i, c in enumerate(s) if c in "0123456789"]
                hidden = set(places[:-1])
                return "".join("#" if i in hidden else c for i, c in enumerate(s))
        """),
        cases=(("''", "''"), ("'7'", "'7'"), ("'abc'", "'abc'"), ("'a1b2c3d'", "'a#b#c3d'"), ("'90'", "'#0'"),
               ("'12 34!'", "'## #4!'")),
        generate=lambda rng: (_text(rng, "0129ab-"),),
        difficulty=2,
    ),
    problem(
        "wave_case",
        "Write a function `wave_case(s)` that makes the letters of `s` upper case and lower case in turn, "
        "starting with upper case; other characters are kept and do not take a turn.",
        references=("""
            def wave_case(s):
                out = ""
                upper = True
                for c in s:
                    if c.isalpha():
                        out += c.upper() if upper else c.lower()
                        upper = not upper
                    else:
                        out += c
                return out
        """, """
            def wave_case(s):
                out = []
                letters = 0
                for c in s:
                    out.append(c.lower() if letters % 2 else c.upper())
                    letters += c.isalpha()
                return "".join(out)
        """),
        cases=(("''", "''"), ("'a'", "'A'"), ("'HELLO'", "'HeLlO'"), ("'a b c'", "'A b C'"),
               ("'12x4y'", "'12X4y'"), ("'go-NOW'", "'Go-NoW'")),
        generate=lambda rng: (_text(rng, "abcXYZ 1-"),),
        difficulty=2,
    ),
    problem(
        "alphabet_walk",
        "Write a function `alphabet_walk(word)` that adds up, over all neighbouring letters of the lowercase "
        "string `word`, how many places apart they are in the alphabet; fewer than two letters give 0.",
        references=("""
            def alphabet_walk(word):
                total = 0
                for i in range(1, len(word)):
                    total += abs(ord(word[i]) - ord(word[i - 1]))
                return total
        """, """
            def alphabet_walk(word):
                codes = [ord(c) for c in word]
                return sum(max(a, b) - min(a, b) for a, b in zip(codes, codes[1:]))
        """),
        cases=(("''", "0"), ("'k'", "0"), ("'ab'", "1"), ("'ba'", "1"), ("'az'", "25"), ("'cab'", "3"),
               ("'hello'", "13")),
        generate=lambda rng: (_text(rng, "abcdefghxyz"),),
        difficulty=1,
    ),
    problem(
        "vowel_stretch",
        "Write a function `vowel_stretch(word)` that returns the longest unbroken block of vowels (a, e, i, "
        "o, u) in the lowercase string `word`: the first such block on ties, and '' if there is no vowel.",
        references=("""
            def vowel_stretch(word):
                best = ""
                block = ""
                for c in word:
                    if c in "aeiou":
                        block += c
                        if len(block) > len(best):
                            best = block
                    else:
                        block = ""
                return best
        """, """
            import re

            def vowel_stretch(word):
                return max(re.findall("[aeiou]+", word), key=len, default="")
        """),
        cases=(("''", "''"), ("'dry'", "''"), ("'a'", "'a'"), ("'banana'", "'a'"), ("'queasy'", "'uea'"),
               ("'audio'", "'au'"), ("'teeoutb'", "'eeou'"), ("'abia'", "'ia'")),
        generate=lambda rng: (_text(rng, "aeiobc", 10),),
        difficulty=3,
    ),
    problem(
        "consonant_blocks",
        "Write a function `consonant_blocks(word)` that counts the maximal blocks of neighbouring consonants "
        "in the lowercase word; every letter other than a, e, i, o, u is a consonant.",
        references=("""
            def consonant_blocks(word):
                blocks = 0
                inside = False
                for c in word:
                    if c in "aeiou":
                        inside = False
                    elif not inside:
                        inside = True
                        blocks += 1
                return blocks
        """, """
            def consonant_blocks(word):
                for v in "aeiou":
                    word = word.replace(v, " ")
                return len(word.split())
        """),
        cases=(("''", "0"), ("'a'", "0"), ("'b'", "1"), ("'street'", "2"), ("'banana'", "3"), ("'ooze'", "1"),
               ("'rhythm'", "1"), ("'abcde'", "1")),
        generate=lambda rng: (_text(rng, "aeubcd", 10),),
        difficulty=2,
    ),
    problem(
        "mirror_letters",
        "Write a function `mirror_letters(s)` that exchanges a with z, b with y and so on for lowercase "
        "letters, and A with Z, B with Y and so on for uppercase letters; all other characters stay.",
        references=("""
            def mirror_letters(s):
                out = ""
                for c in s:
                    if "a" <= c <= "z":
                        out += chr(ord("a") + ord("z") - ord(c))
                    elif "A" <= c <= "Z":
                        out += chr(ord("A") + ord("Z") - ord(c))
                    else:
                        out += c
                return out
        """, """
            def mirror_letters(s):
                low = "abcdefghijklmnopqrstuvwxyz"
                up = low.upper()
                return s.translate(str.maketrans(low + up, low[::-1] + up[::-1]))
        """),
        cases=(("''", "''"), ("'a'", "'z'"), ("'Z'", "'A'"), ("'mn'", "'nm'"), ("'Hi 5!'", "'Sr 5!'"),
               ("'@[`{zA'", "'@[`{aZ'")),
        generate=lambda rng: (_text(rng, "abmnyzAMZ 1"),),
        difficulty=2,
    ),
    problem(
        "absent_letters",
        "Write a function `absent_letters(s, alphabet)` that returns, in their order in `alphabet`, those "
        "characters of `alphabet` that do not occur in `s`, neither as upper case nor as lower case. "
        "`alphabet` is lowercase.",
        references=("""
            def absent_letters(s, alphabet):
                absent = ""
                for c in alphabet:
                    found = False
                    for d in s:
                        if d.lower() == c:
                            found = True
                    if not found:
                        absent += c
                return absent
        """, """
            def absent_letters(s, alphabet):
                used = set(s.lower())
                return "".join(filter(lambda c: c not in used, alphabet))
        """),
        cases=(("'', 'abc'", "'abc'"), ("'abc', ''", "''"), ("'CaB', 'abcd'", "'d'"), ("'xyz', 'zyx'", "''"),
               ("'bead', 'abcdef'", "'cf'"), ("'QQ', 'pqr'", "'pr'")),
        generate=lambda rng: (_text(rng, "abcdABCD "), "abcde"[: rng.randint(0, 5)]),
        difficulty=2,
    ),
]
