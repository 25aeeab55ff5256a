"""Finds reads of an attribute where a type checker takes it for None, whatever was called since.

mypy narrows `self.x` to None after `self.x = None` and under `if self.x is None`, and a call does not end that. The sources
read what the call has assigned; mypyc compiles the read to None.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

Names = frozenset[str]


def reads_of_known_none(tree: ast.AST) -> list[str]:
    """`line: function: attribute` of each such read."""
    found: list[str] = []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            found += [f"{line}: {function.name}: {name}" for line, name in _reads(function.body, frozenset())]
    return found


def _reads(body: Iterable[ast.stmt], known: Names) -> Iterator[tuple[int, str]]:
    for statement in body:
        stored = _attributes(statement, ast.Store)
        if isinstance(statement, ast.If):
            yield from _read_in(statement.test, known)
            if_true, if_false = _nones(statement.test)
            yield from _reads(statement.body, known | if_true)
            yield from _reads(statement.orelse, known | if_false)
            if isinstance(statement.body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break):
                known |= if_false
            known -= frozenset(stored)
        elif isinstance(statement, ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try):
            known -= frozenset(stored)  # a loop may have assigned it before it begins again
            for block in _blocks(statement):
                yield from _reads(block, known)
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _read_in(statement, known)
            known -= frozenset(stored)
            if isinstance(statement, ast.Assign | ast.AnnAssign) and _is_none(statement.value):
                known |= frozenset(stored)


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        yield getattr(statement, name, [])
    for handler in getattr(statement, "handlers", []):
        yield handler.body


def _nones(test: ast.expr) -> tuple[Names, Names]:
    """What is None where the test holds, and where it does not."""
    match test:
        case ast.Compare(left=ast.Attribute(), ops=[ast.Is()], comparators=[right]) if _is_none(right):
            return frozenset({ast.unparse(test.left)}), frozenset()
        case ast.Compare(left=ast.Attribute(), ops=[ast.IsNot()], comparators=[right]) if _is_none(right):
            return frozenset(), frozenset({ast.unparse(test.left)})
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _nones(operand)[::-1]
        case ast.BoolOp(op=ast.And(), values=values):
            return frozenset().union(*(_nones(value)[0] for value in values)), frozenset()
        case ast.BoolOp(op=ast.Or(), values=values):
            return frozenset(), frozenset().union(*(_nones(value)[1] for value in values))
    return frozenset(), frozenset()


def _is_none(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _attributes(node: ast.AST, context: type[ast.expr_context]) -> dict[str, int]:
    """Attributes of that context, with the line of each."""
    return {
        ast.unparse(each): each.lineno
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, context)
    }


def _read_in(node: ast.AST, known: Names) -> Iterator[tuple[int, str]]:
    if known:  # most often empty
        yield from ((line, name) for name, line in _attributes(node, ast.Load).items() if name in known)
