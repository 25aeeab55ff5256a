"""What compilation requires of the compiled modules, and of those that stay sources (setup.py)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.known_none import reads_of_known_none

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "tercet"


@cache
def compiled_modules() -> frozenset[Path]:
    lists = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse((ROOT / "setup.py").read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.endswith("COMPILED")
    }
    chosen = {path for pattern in lists["COMPILED"] for path in PACKAGE.glob(pattern) if path.name != "__init__.py"}
    return frozenset(chosen - {PACKAGE / name for name in lists["NOT_COMPILED"]})


def compiled_classes() -> set[str]:
    """Without errors.py: exceptions can be inherited from."""
    return {
        node.name
        for path in compiled_modules() - {PACKAGE / "errors.py"}
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }


def may_be_compiled(module: str) -> bool:
    """A compiled module, or a package that may export its names."""
    path = PACKAGE.parent / module.replace(".", "/")
    return module.startswith("tercet") and (path.is_dir() or path.with_suffix(".py") in compiled_modules())


def test_no_class_of_the_sources_inherits_from_a_compiled_class() -> None:
    """Such a class fails when its first object is made: TypeError, interpreted classes cannot inherit from compiled."""
    compiled, found = compiled_classes(), []
    for path in sorted(set(PACKAGE.rglob("*.py")) - compiled_modules()):
        tree = ast.parse(path.read_text())
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and may_be_compiled(node.module or "")
            for alias in node.names
        }
        found += [
            f"{path.relative_to(PACKAGE)}: {node.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            and any(isinstance(base, ast.Name) and base.id in imported & compiled for base in node.bases)
        ]
    assert found == []


def test_no_compiled_function_gives_one_name_to_errors_of_several_types() -> None:
    """The name has the type of the first handler: an error that the second one catches raises TypeError."""
    found = []
    for path in sorted(compiled_modules()):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            types: dict[str, set[str]] = {}
            for node in ast.walk(function):
                if isinstance(node, ast.ExceptHandler) and node.name and node.type is not None:
                    types.setdefault(node.name, set()).add(ast.unparse(node.type))
            found += [f"{path.relative_to(PACKAGE)}: {function.name}, {name}" for name in types if len(types[name]) > 1]
    assert found == []


def test_no_compiled_function_reads_an_attribute_that_is_taken_for_none() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{read}"
        for path in sorted(compiled_modules())
        for read in reads_of_known_none(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "body",
    [
        "self.root: Node | None = None; self.grow(); use(self.root)",
        "if self.root is None: self.grow(); use(self.root)",
        "if self.root is not None: return\n    self.grow(); use(self.root)",
        "if not (self.root is not None or empty): self.grow(); use(self.root)",
    ],
)
def test_such_reads_are_found(body: str) -> None:
    (read,) = reads_of_known_none(ast.parse(f"def start(self):\n    {body}"))
    assert read.endswith("start: self.root")


@pytest.mark.parametrize(
    "body",
    ["self.root = None; self.root = grow(); use(self.root)", "if self.root is None: self.root = grow()\n    use(self.root)"],
)
def test_reads_of_what_was_assigned_are_not_found(body: str) -> None:
    assert reads_of_known_none(ast.parse(f"def start(self):\n    {body}")) == []
