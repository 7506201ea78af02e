"""Rewrites between comprehensions and loops that build the same value."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

from wmtp_ray.data.sources.mini.kinds import WHOLE
from wmtp_ray.data.sources.mini.rewrites.naming import RESULT_NAMES
from wmtp_ray.data.sources.mini.trees import (
    SCOPES,
    Edit,
    Program,
    all_names,
    blocks,
    clone,
    enclosing_function,
    fresh_name,
    is_pure,
    loaded_names,
    stored_names,
)

_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def comprehension_to_loop(program: Program) -> Iterator[Edit]:
    """`x = [e for ...]` → `x = []` `for ...: x.append(e)`; also set, dict, `sum`, `any`, `all`; also after `return`."""
    name = fresh_name(program.tree, RESULT_NAMES)
    for block in blocks(program.tree):
        for position, node in enumerate(block):
            match node:
                case ast.Return(value=ast.expr() as value) if name is not None:
                    target: str = name
                case ast.Assign(targets=[ast.Name(id=target)], value=value):
                    pass
                case _:
                    continue
            kind, comprehension = _aggregate(value)
            if comprehension is None or not _is_liftable(comprehension, target, node, program):
                continue
            loop = _as_loop(kind, comprehension, target, isinstance(node, ast.Return), program)
            if loop is not None:
                yield lambda block=block, at=position, loop=loop: block.__setitem__(slice(at, at + 1), loop)


def _aggregate(value: ast.expr) -> tuple[str, _Comprehension | None]:
    """What gathers the comprehension's elements, and the comprehension; ("", None) for other expressions."""
    match value:
        case ast.ListComp() | ast.SetComp() | ast.DictComp():
            return type(value).__name__, value
        case ast.Call(
            func=ast.Name(id="sum" | "any" | "all" as name), args=[ast.GeneratorExp() as inner], keywords=[]
        ):
            return name, inner
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=""), attr="join"), args=[ast.GeneratorExp() as inner]
        ):
            return "join", inner
    return "", None


def _is_liftable(comprehension: _Comprehension, target: str, node: ast.stmt, program: Program) -> bool:
    """Whether the comprehension's own names may become names of the function."""
    own = {name for part in comprehension.generators for name in stored_names(part.target)}
    inside = {id(child) for child in ast.walk(node)}
    function = enclosing_function(program.tree, node)
    for child in ast.walk(function):
        if isinstance(child, SCOPES) and child is not function and loaded_names(child) & (own | {target}):
            return False
        if isinstance(child, ast.Name) and child.id in own and id(child) not in inside:
            return False
    arguments = {argument.arg for argument in function.args.args}
    outer = {name for part in program.tree.body if not isinstance(part, SCOPES) for name in all_names(part)}
    return target not in own | loaded_names(comprehension) and not own & (arguments | outer)


def _as_loop(
    kind: str, comprehension: _Comprehension, target: str, returns: bool, program: Program
) -> list[ast.stmt] | None:
    load, store = ast.Name(target, ast.Load()), ast.Name(target, ast.Store())
    element = comprehension.value if isinstance(comprehension, ast.DictComp) else comprehension.elt
    end: list[ast.stmt] = [ast.Return(clone(load))] if returns else []
    if kind in ("any", "all"):
        if not returns:
            return None
        hit = kind == "any"
        test = element if hit else ast.UnaryOp(ast.Not(), element)
        leave: list[ast.stmt] = [ast.If(test, [ast.Return(ast.Constant(hit))], [])]
        return [_nest(comprehension.generators, leave), ast.Return(ast.Constant(not hit))]
    if kind == "ListComp":
        start: ast.expr = ast.List([], ast.Load())
        step: ast.stmt = ast.Expr(ast.Call(ast.Attribute(load, "append", ast.Load()), [element], []))
    elif kind == "SetComp":
        start = ast.Call(ast.Name("set", ast.Load()), [], [])
        step = ast.Expr(ast.Call(ast.Attribute(load, "add", ast.Load()), [element], []))
    elif kind == "DictComp" and isinstance(comprehension, ast.DictComp):
        start = ast.Dict([], [])
        step = ast.Assign([ast.Subscript(load, comprehension.key, ast.Store())], element)
    elif kind == "sum" and program.are(WHOLE, element):
        start, step = ast.Constant(0), ast.AugAssign(clone(store), ast.Add(), element)
    elif kind == "join":
        start, step = ast.Constant(""), ast.AugAssign(clone(store), ast.Add(), element)
    else:
        return None
    return [ast.Assign([store], start), _nest(comprehension.generators, [step]), *end]


def _nest(generators: list[ast.comprehension], body: list[ast.stmt]) -> ast.stmt:
    for part in reversed(generators):
        for test in reversed(part.ifs):
            body = [ast.If(test, body, [])]
        body = [ast.For(part.target, part.iter, body, [])]
    return body[0]


def loop_to_comprehension(program: Program) -> Iterator[Edit]:
    """`x = []` `for t in it: [if c:] x.append(e)` → `x = [e for t in it if c]`; `total += e` → `sum(...)`."""
    for block in blocks(program.tree):
        for position, (first, loop) in enumerate(itertools.pairwise(block)):
            match first:
                case ast.Assign(targets=[ast.Name(id=name)], value=start):
                    pass
                case _:
                    continue
            if not isinstance(loop, ast.For) or loop.orelse:
                continue
            generators, body = _unnest(loop)
            new = _gathered(name, start, generators, body, program)
            if new is None:
                continue
            own = {bound for part in generators for bound in stored_names(part.target)}
            parts = [expression for part in generators for expression in (part.iter, *part.ifs)]
            function = enclosing_function(program.tree, loop)
            inside = {id(child) for child in ast.walk(loop)}
            elsewhere = {
                child.id
                for child in ast.walk(function)
                if isinstance(child, ast.Name) and id(child) not in inside
            }
            if (
                own & elsewhere
                or name in loaded_names(*parts, *new[0])
                or not all(map(is_pure, [*parts, *new[0]]))
            ):
                continue
            built = ast.Assign([ast.Name(name, ast.Store())], new[1])
            yield lambda block=block, at=position, built=built: block.__setitem__(slice(at, at + 2), [built])


def _unnest(loop: ast.For) -> tuple[list[ast.comprehension], list[ast.stmt]]:
    """The loops and conditions around the innermost body, as the clauses of a comprehension."""
    generators: list[ast.comprehension] = []
    body: list[ast.stmt] = [loop]
    while len(body) == 1:
        node = body[0]
        if isinstance(node, ast.For) and not node.orelse:
            generators.append(ast.comprehension(node.target, node.iter, [], 0))
        elif isinstance(node, ast.If) and not node.orelse:
            generators[-1].ifs.append(node.test)
        else:
            break
        body = node.body
    return generators, body


def _gathered(
    name: str, start: ast.expr, generators: list[ast.comprehension], body: list[ast.stmt], program: Program
) -> tuple[list[ast.expr], ast.expr] | None:
    """(element expressions, the comprehension that gathers them), or None if the loop does something else."""
    match (start, body):
        case (
            ast.List(elts=[]),
            [
                ast.Expr(
                    value=ast.Call(
                        func=ast.Attribute(value=ast.Name(id=owner), attr="append"), args=[element]
                    )
                )
            ],
        ) if owner == name:
            return [element], ast.ListComp(element, generators)
        case (
            ast.Call(func=ast.Name(id="set"), args=[]),
            [
                ast.Expr(
                    value=ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr="add"), args=[element])
                )
            ],
        ) if owner == name:
            return [element], ast.SetComp(element, generators)
        case (
            ast.Dict(keys=[]),
            [ast.Assign(targets=[ast.Subscript(value=ast.Name(id=owner), slice=key)], value=element)],
        ) if owner == name:
            return [key, element], ast.DictComp(key, element, generators)
        case (
            ast.Constant(value=0 | "" as zero),
            [ast.AugAssign(target=ast.Name(id=owner), op=ast.Add(), value=element)],
        ) if owner == name:
            generator = ast.GeneratorExp(element, generators)
            if zero == "" and program.are({"str"}, element):
                return [element], ast.Call(
                    ast.Attribute(ast.Constant(""), "join", ast.Load()), [generator], []
                )
            if zero == 0 and program.are(WHOLE, element):
                return [element], ast.Call(ast.Name("sum", ast.Load()), [generator], [])
    return None
