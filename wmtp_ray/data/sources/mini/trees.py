"""Walking and editing Python syntax trees; shared by rewrites and mutations.

A *rule* looks at a program and yields edits: callables that change the tree in place, at one place each. The caller
picks one, calls it, and formats the tree. Edits of one tree are alternatives: after one was called the others are void.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from wmtp_ray.data.sources.mini.kinds import Kind, Signature, infer_kinds, kind_of

Edit = Callable[[], None]
_Node = TypeVar("_Node", bound=ast.AST)

PURE_FUNCTIONS = frozenset(
    "abs all any bool chr dict divmod enumerate float frozenset int len list max min ord pow range reversed round set "
    "sorted str sum tuple zip".split()
)
PURE_METHODS = frozenset(
    "count endswith find get index isalnum isalpha isdigit islower isspace isupper items join keys lower lstrip "
    "replace rstrip split startswith strip swapcase title upper values zfill".split()
)
EXITS = (ast.Return, ast.Break, ast.Continue, ast.Raise)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True)
class Slot:
    """One position that holds an expression."""

    parent: ast.AST
    field_name: str
    index: int | None
    node: ast.expr

    def replace(self, new: ast.expr) -> None:
        """Put `new` where `node` was."""
        if self.index is None:
            setattr(self.parent, self.field_name, new)
        else:
            getattr(self.parent, self.field_name)[self.index] = new


@dataclass
class Program:
    """A parsed program with what is known of its values. `signature` describes its entry function."""

    text: str
    signature: Signature
    tree: ast.Module = field(init=False)
    kinds: dict[str, Kind] = field(init=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)
        self.kinds = _cached_kinds(self.text, self.signature)

    def kind(self, node: ast.expr) -> Kind:
        """The kind of value that `node` has, `ANY` where nothing is known."""
        return kind_of(node, self.kinds, self.signature)

    def are(self, names: Iterable[str], *nodes: ast.expr) -> bool:
        """Whether the kind of every node is one of `names`."""
        return all(self.kind(node).name in names for node in nodes)


@functools.lru_cache(maxsize=64)
def _cached_kinds(text: str, signature: Signature) -> dict[str, Kind]:
    return infer_kinds(ast.parse(text), signature)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Every function definition, outer before inner."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def blocks(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every list of statements inside a function, in a fixed order."""
    for function in functions(tree):
        yield function.body
        for node in own_nodes(function):
            for name in ("body", "orelse", "finalbody"):
                block = getattr(node, name, None)
                if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                    yield block


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Descendants of `scope` without those of functions and classes defined in it (lambdas are entered)."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        yield node
        waiting = list(ast.iter_child_nodes(node)) + waiting


def slots(tree: ast.AST) -> Iterator[Slot]:
    """Every expression position inside functions, outside f-strings; nothing that is stored to."""
    for function in functions(tree):
        for parent in [function, *own_nodes(function)]:
            if isinstance(parent, (ast.JoinedStr, ast.FormattedValue, ast.arguments)):
                continue
            for name, value in ast.iter_fields(parent):
                if name in ("decorator_list", "returns", "annotation"):
                    continue
                items = enumerate(value) if isinstance(value, list) else [(None, value)]
                for index, node in items:
                    stored = isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del))
                    if isinstance(node, ast.expr) and not stored:
                        yield Slot(parent, name, index, node)


def loops(tree: ast.AST) -> Iterator[tuple[list[ast.stmt], int, ast.For | ast.While]]:
    """Every loop without `else`: (block, position in the block, loop)."""
    for block in blocks(tree):
        for position, statement in enumerate(block):
            if isinstance(statement, (ast.For, ast.While)) and not statement.orelse:
                yield block, position, statement


def enclosing_function(tree: ast.AST, node: ast.AST) -> ast.FunctionDef:
    """The innermost function that contains `node`."""
    found = [function for function in functions(tree) if any(child is node for child in own_nodes(function))]
    return found[-1]


def own_jumps(loop: ast.For | ast.While) -> list[ast.stmt]:
    """The `break` and `continue` statements that belong to this loop and not to one inside it."""
    found: list[ast.stmt] = []
    waiting: list[ast.AST] = list(loop.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Break, ast.Continue)):
            found.append(node)
        elif not isinstance(node, (ast.For, ast.While, *SCOPES)):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def stored_names(*nodes: ast.AST) -> set[str]:
    """Names that are assigned or deleted anywhere in `nodes`, comprehension targets included."""
    return {
        child.id
        for node in nodes
        for child in ast.walk(node)
        if isinstance(child, ast.Name) and not isinstance(child.ctx, ast.Load)
    }


def loaded_names(*nodes: ast.AST) -> set[str]:
    """Names that are read anywhere in `nodes`."""
    return {
        child.id
        for node in nodes
        for child in ast.walk(node)
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load)
    }


def all_names(tree: ast.AST) -> set[str]:
    """Every identifier of the program."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
    return found


def fresh_name(tree: ast.AST, candidates: Iterable[str]) -> str | None:
    """The first candidate that means nothing yet in this program."""
    taken = all_names(tree) | set(dir(builtins))
    return next((name for name in candidates if name not in taken), None)


def is_simple(node: ast.expr) -> bool:
    """Whether `node` is a name or a constant."""
    return isinstance(node, (ast.Name, ast.Constant))


def is_pure(node: ast.expr) -> bool:
    """Whether evaluating `node` twice, or in another order, changes nothing."""
    for child in ast.walk(node):
        if isinstance(child, (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.Lambda, ast.JoinedStr)):
            return False
        if isinstance(child, ast.Call):
            function = child.func
            pure = (isinstance(function, ast.Name) and function.id in PURE_FUNCTIONS) or (
                isinstance(function, ast.Attribute) and function.attr in PURE_METHODS
            )
            if not pure:
                return False
    return True


def is_unchanged(expression: ast.expr, body: list[ast.stmt], function: ast.FunctionDef) -> bool:
    """Whether `expression` surely has the same value each time it is evaluated while `body` runs.

    No name of it is assigned in `body`, and no object behind such a name is changed there or known by another name.
    """
    if not is_pure(expression):
        return False
    names = loaded_names(expression) - PURE_FUNCTIONS
    if names & stored_names(*body):
        return False
    aliased = {
        node.value.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)
    }
    return not names & aliased and not any(
        _may_change(node, names) for part in body for node in ast.walk(part)
    )


def _may_change(node: ast.AST, names: set[str]) -> bool:
    """Whether this node itself stores into, or calls something that may change, an object behind one of `names`."""
    if isinstance(node, ast.Subscript):
        return not isinstance(node.ctx, ast.Load) and bool(loaded_names(node.value) & names)
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        return node.func.attr not in PURE_METHODS and bool(loaded_names(node.func.value) & names)
    known = isinstance(node.func, ast.Name) and node.func.id in PURE_FUNCTIONS
    return not known and any(
        isinstance(argument, ast.Name) and argument.id in names for argument in node.args
    )


def same(first: ast.AST, second: ast.AST) -> bool:
    """Whether two trees are written alike."""
    return ast.dump(first) == ast.dump(second)


def clone(node: _Node) -> _Node:
    """A copy that shares nothing with `node`."""
    return copy.deepcopy(node)
