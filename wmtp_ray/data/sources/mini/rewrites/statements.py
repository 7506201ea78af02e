"""Rewrites of assignments, returns and names."""

from __future__ import annotations

import ast
import builtins
import random
from collections.abc import Iterator

from wmtp_ray.data.sources.mini.kinds import IMMUTABLE, NUMBERS
from wmtp_ray.data.sources.mini.trees import (
    SCOPES,
    Edit,
    Program,
    blocks,
    clone,
    fresh_name,
    functions,
    is_pure,
    loaded_names,
    own_nodes,
    same,
    stored_names,
)

RESULT_NAMES = ("result", "answer", "value", "output", "res", "ans", "final", "outcome", "ret")
FLAG_NAMES = ("found", "ok", "holds", "condition", "check", "flag", "matches", "hit")
SPARE_NAMES = ("tmp", "temp", "spare", "kept", "previous_value", "held")
LOCAL_NAMES = tuple(
    "total acc count result res out value cur current best item entry left right start stop pos idx index low high step "
    "seen stack group key part piece state size limit first second rest head tail mark prev nxt number amount cell row col "
    "x y z a b c d e i j k m p q r s t u v w".split()
)


def expand_augmented(program: Program) -> Iterator[Edit]:
    """`x += e` → `x = x + e`; of a list or set only where nothing else can hold it, so only of immutable kinds."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            if not isinstance(node, ast.AugAssign):
                continue
            target = node.target
            if isinstance(target, ast.Name) and program.are(IMMUTABLE, target):
                load: ast.expr = ast.Name(target.id, ast.Load())
            elif isinstance(target, ast.Subscript) and is_pure(target) and program.are(NUMBERS, node.value):
                load = ast.Subscript(clone(target.value), clone(target.slice), ast.Load())
            else:
                continue
            plain = ast.Assign([target], ast.BinOp(load, node.op, node.value))
            yield lambda block=block, position=position, plain=plain: block.__setitem__(position, plain)


def contract_augmented(program: Program) -> Iterator[Edit]:
    """`x = x + e` → `x += e`, of immutable kinds."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            if (
                isinstance(node, ast.Assign)
                and len(node.targets) == 1
                and isinstance(node.targets[0], ast.Name)
                and isinstance(node.value, ast.BinOp)
                and isinstance(node.value.left, ast.Name)
                and node.value.left.id == node.targets[0].id
                and program.are(IMMUTABLE, node.targets[0])
            ):
                short = ast.AugAssign(node.targets[0], node.value.op, node.value.right)
                yield lambda block=block, position=position, short=short: block.__setitem__(position, short)


def name_result(program: Program) -> Iterator[Edit]:
    """`return e` → `result = e` `return result`."""
    yield from _name_expression(program, ast.Return, "value", RESULT_NAMES)


def name_condition(program: Program) -> Iterator[Edit]:
    """`if c:` → `found = c` `if found:`."""
    yield from _name_expression(program, ast.If, "test", FLAG_NAMES)


def _name_expression(
    program: Program, statement: type[ast.stmt], field: str, candidates: tuple[str, ...]
) -> Iterator[Edit]:
    name = fresh_name(program.tree, candidates)
    if name is None:
        return
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            expression = getattr(node, field, None)
            if isinstance(node, statement) and isinstance(expression, ast.expr) and not _is_simple(expression):

                def edit(
                    block: list[ast.stmt] = block, position: int = position, node: ast.stmt = node, e: ast.expr = expression
                ) -> None:
                    block.insert(position, ast.Assign([ast.Name(name, ast.Store())], e))
                    setattr(node, field, ast.Name(name, ast.Load()))

                yield edit


def inline_result(program: Program) -> Iterator[Edit]:
    """`x = e` `return x` → `return e`."""
    for block in blocks(program.tree):
        for position, (first, second) in enumerate(zip(block, block[1:], strict=False)):
            if (
                isinstance(first, ast.Assign)
                and len(first.targets) == 1
                and isinstance(first.targets[0], ast.Name)
                and isinstance(second, ast.Return)
                and isinstance(second.value, ast.Name)
                and second.value.id == first.targets[0].id
                and not _is_shared(program, second.value.id)
            ):
                new = ast.Return(first.value)
                yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 2), [new])


def split_tuple_assignment(program: Program) -> Iterator[Edit]:
    """`a, b = x, y` → `a = x` `b = y`, with a spare name where `y` reads `a`."""
    spare = fresh_name(program.tree, SPARE_NAMES)
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            match node:
                case ast.Assign(targets=[ast.Tuple(elts=[ast.Name() as a, ast.Name() as b])], value=ast.Tuple(elts=[x, y])):
                    if isinstance(x, ast.Starred) or isinstance(y, ast.Starred) or not (is_pure(x) and is_pure(y)):
                        continue
                    if a.id not in loaded_names(y):
                        parts: list[ast.stmt] = [ast.Assign([a], x), ast.Assign([b], y)]
                    elif b.id not in loaded_names(x):
                        parts = [ast.Assign([b], y), ast.Assign([a], x)]
                    elif spare is not None:
                        parts = [
                            ast.Assign([ast.Name(spare, ast.Store())], x),
                            ast.Assign([b], y),
                            ast.Assign([a], ast.Name(spare, ast.Load())),
                        ]
                    else:
                        continue
                    yield lambda block=block, at=position, parts=parts: block.__setitem__(slice(at, at + 1), parts)


def _independent_pair(first: ast.stmt, second: ast.stmt) -> tuple[ast.Assign, ast.Assign] | None:
    """Both statements if they are pure assignments to different names, neither of which reads the other's."""
    for node in (first, second):
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            return None
        if not is_pure(node.value):
            return None
    assert isinstance(first, ast.Assign) and isinstance(second, ast.Assign)
    mine, other = stored_names(first.targets[0]), stored_names(second.targets[0])
    if mine & other or mine & loaded_names(second.value) or other & loaded_names(first.value):
        return None
    return first, second


def swap_assignments(program: Program) -> Iterator[Edit]:
    """Two neighbouring assignments that do not depend on each other change places."""
    for block in blocks(program.tree):
        for position, (first, second) in enumerate(zip(block, block[1:], strict=False)):
            if _independent_pair(first, second):
                new = [second, first]
                yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 2), new)


def join_assignments(program: Program) -> Iterator[Edit]:
    """`a = x` `b = y` → `a, b = x, y`."""
    for block in blocks(program.tree):
        for position, (first, second) in enumerate(zip(block, block[1:], strict=False)):
            pair = _independent_pair(first, second)
            if pair:
                targets = ast.Tuple([pair[0].targets[0], pair[1].targets[0]], ast.Store())
                both = ast.Assign([targets], ast.Tuple([pair[0].value, pair[1].value], ast.Load()))
                yield lambda block=block, at=position, both=both: block.__setitem__(slice(at, at + 2), [both])


def expand_conditional(program: Program) -> Iterator[Edit]:
    """`x = a if c else b` → an `if` statement; the same for `return`."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            match node:
                case ast.Return(value=ast.IfExp(test=test, body=body, orelse=orelse)):
                    new: list[ast.stmt] = [ast.If(test, [ast.Return(body)], []), ast.Return(orelse)]
                case ast.Assign(targets=[ast.Name() as target], value=ast.IfExp(test=test, body=body, orelse=orelse)):
                    new = [ast.If(test, [ast.Assign([target], body)], [ast.Assign([clone(target)], orelse)])]
                case ast.AugAssign(target=ast.Name() as target, value=ast.IfExp(test=test, body=body, orelse=orelse)):
                    yes = ast.AugAssign(target, node.op, body)
                    new = [ast.If(test, [yes], [ast.AugAssign(clone(target), node.op, orelse)])]
                    if loaded_names(test, body, orelse) & {target.id} or not is_pure(node.value):
                        continue
                case _:
                    continue
            yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 1), new)


def contract_conditional(program: Program) -> Iterator[Edit]:
    """`if c: x = a` `else: x = b` → `x = a if c else b`; the same for `return`."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            following = block[position + 1] if position + 1 < len(block) else None
            match node:
                case ast.If(
                    test=test,
                    body=[ast.Assign(targets=[ast.Name() as target], value=yes)],
                    orelse=[ast.Assign(targets=[ast.Name() as other], value=no)],
                ) if target.id == other.id:
                    new: ast.stmt = ast.Assign([target], ast.IfExp(test, yes, no))
                    length = 1
                case ast.If(test=test, body=[ast.Return(value=ast.expr() as yes)], orelse=[]) if (
                    isinstance(following, ast.Return) and following.value is not None
                ):
                    new = ast.Return(ast.IfExp(test, yes, following.value))
                    length = 2
                case ast.If(
                    test=test, body=[ast.Return(value=ast.expr() as yes)], orelse=[ast.Return(value=ast.expr() as no)]
                ):
                    new = ast.Return(ast.IfExp(test, yes, no))
                    length = 1
                case _:
                    continue
            yield lambda block=block, at=position, n=length, new=new: block.__setitem__(slice(at, at + n), [new])


def branch_on_truth(program: Program) -> Iterator[Edit]:
    """`return c` → `if c: return True` `return False`, where `c` is a bool."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            if isinstance(node, ast.Return) and node.value is not None and not _is_simple(node.value):
                if program.are({"bool"}, node.value):
                    yes = ast.If(node.value, [ast.Return(ast.Constant(True))], [])
                    new: list[ast.stmt] = [yes, ast.Return(ast.Constant(False))]
                    yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 1), new)


def return_truth(program: Program) -> Iterator[Edit]:
    """`if c: return True` `return False` → `return c`, where `c` is a bool."""
    for block in blocks(program.tree):
        for position, (first, second) in enumerate(zip(block, block[1:], strict=False)):
            match (first, second):
                case (
                    ast.If(test=test, body=[ast.Return(value=ast.Constant(value=True))], orelse=[]),
                    ast.Return(value=ast.Constant(value=False)),
                ) if program.are({"bool"}, test):
                    new = ast.Return(test)
                    yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 2), [new])


def extract_condition_branch(program: Program) -> Iterator[Edit]:
    """`if a or b: return x` → `if a: return x` `if b: return x`."""
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            match node:
                case ast.If(test=ast.BoolOp(op=ast.Or(), values=[a, b]), body=[ast.Return()], orelse=[]):
                    new = [ast.If(a, node.body, []), ast.If(b, [clone(node.body[0])], [])]
                    yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 1), new)


def merge_condition_branches(program: Program) -> Iterator[Edit]:
    """`if a: return x` `if b: return x` → `if a or b: return x`."""
    for block in blocks(program.tree):
        for position, (first, second) in enumerate(zip(block, block[1:], strict=False)):
            match (first, second):
                case (ast.If(body=[ast.Return() as x], orelse=[]), ast.If(body=[ast.Return() as y], orelse=[])) if same(x, y):
                    new = ast.If(ast.BoolOp(ast.Or(), [first.test, second.test]), [x], [])
                    yield lambda block=block, at=position, new=new: block.__setitem__(slice(at, at + 2), [new])


def rename_locals(program: Program, rng: random.Random) -> None:
    """Give local names other names, the same one wherever a name occurs; parameters keep theirs.

    One mapping for the whole module, injective over all identifiers, so no two names can come to clash.
    """
    tree = program.tree
    fixed = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            fixed.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            fixed.add(node.name)
        elif isinstance(node, ast.alias):
            fixed.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            fixed.add(node.name)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            fixed.update(node.names)
    inside = {name for function in functions(tree) for name in stored_names(function)}
    outside = {name for statement in tree.body if not isinstance(statement, SCOPES) for name in stored_names(statement)}
    old = sorted((inside - outside) - fixed)
    taken = fixed | outside | set(old) | loaded_names(tree)
    free = [name for name in LOCAL_NAMES if name not in taken]
    rng.shuffle(free)
    chosen = [name for name in old if rng.random() < 0.7]
    names = dict(zip(chosen, free, strict=False))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            node.id = names[node.id]


def _is_simple(node: ast.expr) -> bool:
    return isinstance(node, (ast.Name, ast.Constant))


def _is_shared(program: Program, name: str) -> bool:
    """Whether another function than the one that assigns `name` also uses it (a closure, `nonlocal`, `global`)."""
    users = [
        function
        for function in functions(program.tree)
        if any(isinstance(node, ast.Name) and node.id == name for node in own_nodes(function))
        or any(isinstance(node, (ast.Global, ast.Nonlocal)) and name in node.names for node in own_nodes(function))
    ]
    return len(users) > 1
