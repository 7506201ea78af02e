"""Plain values as text, between a program in the sandbox and its judge.

The text is JSON made of lists and ASCII strings only, so that the side that runs untrusted code writes it
without importing anything, and the side that judges reads it with `json`: no pickle, no eval of what came out
of a sandbox.

    encode([1, True, "ä"]) == '["l",[["i","0x1"],["b","1"],["s","c3a4"]]]'

Exactly the builtin types pass (`type(x) is int`, not `isinstance`): a subclass with its own `__eq__` never
reaches a comparison. Counter, defaultdict and OrderedDict are written as the dict that they are. This module
imports nothing and its source also runs inside the sandbox.
"""

from __future__ import annotations

from typing import Any  # outside only

MAX_DEPTH = 100
MAX_CHARACTERS = 1 << 24
MAX_SHARING_A_HASH = 100


class NotPlain(Exception):
    """A value that is not made of builtin types, or is too deep or too large to send."""


def encode(value: Any, opaque: Any = None) -> str:
    """`value` as text. `opaque(x)` may name an object that is not plain; without it `NotPlain` is raised."""
    parts: list[str] = []
    budget = [MAX_CHARACTERS]

    def emit(text):
        budget[0] -= len(text)
        if budget[0] < 0:
            raise NotPlain("value is too large to send")
        parts.append(text)

    def sequence(tag, items, depth):
        emit('["' + tag + '",[')
        for index, item in enumerate(items):
            if index:
                emit(",")
            walk(item, depth + 1)
        emit("]]")

    def walk(x, depth):
        kind = type(x)
        if depth > MAX_DEPTH:
            raise NotPlain("value is nested deeper than 100 levels, or contains itself")
        if x is None:
            emit('["n"]')
        elif kind is bool:
            emit('["b","1"]' if x else '["b","0"]')
        elif kind is int:
            emit('["i","' + hex(x) + '"]')
        elif kind is float:
            emit('["f","' + x.hex() + '"]')
        elif kind is str:
            emit('["s","' + x.encode("utf-8", "surrogatepass").hex() + '"]')
        elif kind is bytes:
            emit('["y","' + x.hex() + '"]')
        elif kind is complex:
            emit('["c","' + x.real.hex() + '","' + x.imag.hex() + '"]')
        elif kind is list:
            sequence("l", x, depth)
        elif kind is tuple:
            sequence("t", x, depth)
        elif kind is set:
            sequence("S", x, depth)
        elif kind is frozenset:
            sequence("F", x, depth)
        elif kind is dict or (kind.__module__ == "collections" and issubclass(kind, dict)):
            emit('["d",[')
            for index, (key, item) in enumerate(dict.items(x)):
                emit(",[" if index else "[")
                walk(key, depth + 1)
                emit(",")
                walk(item, depth + 1)
                emit("]")
            emit("]]")
        elif opaque is not None:
            emit('["o","' + str(opaque(x)) + '"]')
        else:
            raise NotPlain("value of type " + kind.__name__ + " is not made of builtin types")

    walk(value, 0)
    return "".join(parts)


def decode(tree: Any, opaque: Any = None) -> Any:
    """The value of a parsed text. Raises ValueError, TypeError, KeyError or IndexError if it is malformed."""
    tag = tree[0]
    if tag == "n":
        return None
    if tag == "b":
        return tree[1] == "1"
    if tag == "i":
        return int(tree[1], 16)
    if tag == "f":
        return float.fromhex(tree[1])
    if tag == "s":
        return bytes.fromhex(tree[1]).decode("utf-8", "surrogatepass")
    if tag == "y":
        return bytes.fromhex(tree[1])
    if tag == "c":
        return complex(float.fromhex(tree[1]), float.fromhex(tree[2]))
    if tag == "l":
        return [decode(item, opaque) for item in tree[1]]
    if tag == "t":
        return tuple([decode(item, opaque) for item in tree[1]])
    if tag == "S":
        return set(_hashable([decode(item, opaque) for item in tree[1]]))
    if tag == "F":
        return frozenset(_hashable([decode(item, opaque) for item in tree[1]]))
    if tag == "d":
        keys = _hashable([decode(key, opaque) for key, _ in tree[1]])
        return dict(zip(keys, [decode(item, opaque) for _, item in tree[1]], strict=True))
    if tag == "o" and opaque is not None:
        return opaque(tree[1])
    raise ValueError("unknown tag")


def _hashable(items: Any) -> Any:
    """`items`, which may be made a set or keys. ValueError where so many have one hash, as multiples of 2**61 - 1 do,
    that each would be compared with all before it."""
    sharing: dict[int, int] = {}
    for item in items:
        number = hash(item)
        sharing[number] = sharing.get(number, 0) + 1
        if sharing[number] > MAX_SHARING_A_HASH:
            raise ValueError("too many keys with one hash")
    return items
