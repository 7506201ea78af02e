"""Loops that obviously never end: each would cost a whole time limit to label, and teaches little."""

from __future__ import annotations

import ast

from wmtp_ray.data.sources.mini.trees import (
    PURE_FUNCTIONS,
    PURE_METHODS,
    loaded_names,
    own_jumps,
    stored_names,
)


def is_endless(tree: ast.Module) -> bool:
    """Whether some `while` loop, once entered, surely or very likely never ends.

    It has no other way out than its conditions, and either nothing that they read changes in its body, or a number that
    only shrinks towards zero (`n //= 10`) is asked to fall below zero.
    """
    return any(isinstance(node, ast.While) and _never_ends(node) for node in ast.walk(tree))


def _never_ends(loop: ast.While) -> bool:
    tests = _exit_tests(loop)
    if tests is None:
        return False
    names = loaded_names(*tests) - PURE_FUNCTIONS
    changed = stored_names(*loop.body)
    for statement in loop.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
                changed |= loaded_names(node.value)
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr not in PURE_METHODS
            ):
                changed |= loaded_names(node.func.value)
    if not names & changed and not any(map(_calls_unknown, tests)):
        return True
    match tests:
        case [ast.Compare(left=ast.Name(id=name), ops=[ast.GtE()], comparators=[ast.Constant(value=0)])]:
            return _only_divided(name, loop)
        case [
            ast.Constant(),
            ast.Compare(left=ast.Name(id=name), ops=[ast.Lt()], comparators=[ast.Constant(value=0)]),
        ]:
            return _only_divided(name, loop)
    return False


def _exit_tests(loop: ast.While) -> list[ast.expr] | None:
    """The conditions that decide whether the loop ends: its own, and those of `if ...: break` directly in its body.

    None if it can also be left in another way.
    """
    tests, breaks = [loop.test], 0
    for statement in loop.body:
        if (
            isinstance(statement, ast.If)
            and len(statement.body) == 1
            and isinstance(statement.body[0], ast.Break)
        ):
            tests.append(statement.test)
            breaks += 1
    all_breaks = sum(isinstance(jump, ast.Break) for jump in own_jumps(loop))
    return tests if breaks == all_breaks and not _leaves(loop) else None


def _leaves(loop: ast.While) -> bool:
    return any(
        isinstance(node, (ast.Return, ast.Raise)) for statement in loop.body for node in ast.walk(statement)
    )


def _calls_unknown(test: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Call)
        and not (isinstance(node.func, ast.Name) and node.func.id in PURE_FUNCTIONS)
        and not (isinstance(node.func, ast.Attribute) and node.func.attr in PURE_METHODS)
        for node in ast.walk(test)
    )


def _only_divided(name: str, loop: ast.While) -> bool:
    for statement in loop.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
                if not (isinstance(statement, ast.AugAssign) and isinstance(statement.op, ast.FloorDiv)):
                    return False
                if statement.target is not node:
                    return False
    return name in stored_names(*loop.body)
