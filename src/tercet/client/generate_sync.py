"""Generates the synchronous client from the asynchronous one: `python -m tercet.client.generate_sync [--check]`.

For each class of `CLASSES` a class with the same methods, signatures and docstrings, which run the asynchronous object's:

    async def get(self, key, *, timeout=...) -> KV | None   ->   return self._run(self._inner.get(key, timeout=timeout))
    async def scan(self, prefix) -> AsyncIterator[KV]       ->   return self._iterate(self._inner.scan(prefix))
    def namespace(self, prefix) -> AsyncClient              ->   Client._of(self._call(self._inner.namespace, prefix), ...)
    async with, async for, anext                            ->   with, for, next

Class methods are copied. Names that begin with an underscore, and those in `SKIPPED`, are left out. A class's public attributes
are those that it annotates in its body. `--check` compares syntax trees, so formatting does not matter, and is run by a test.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE / "sync"
CLASSES = {
    "async_client": {"AsyncClient": "Client"},
    "operations": {"Operations": "SyncOperations"},
    "kv_calls": {"KVCalls": "SyncKVCalls"},
    "watch_calls": {"WatchCalls": "SyncWatchCalls"},
    "core_calls": {"CoreCalls": "SyncCoreCalls"},
    "watcher": {"Watcher": "SyncWatcher"},
    "lease": {"Lease": "SyncLease"},
    "lease_calls": {"LeaseCalls": "SyncLeaseCalls"},
    "auth_calls": {"AuthCalls": "SyncAuthCalls"},
    "cluster_calls": {"ClusterCalls": "SyncClusterCalls"},
    "maintenance_calls": {"MaintenanceCalls": "SyncMaintenanceCalls"},
    "recipes.calls": {"RecipeCalls": "SyncRecipeCalls"},
    "recipes.held_key": {"HeldKey": "SyncHeldKey"},
    "recipes.lock": {"LineKey": "SyncLineKey", "Lock": "SyncLock"},
    "recipes.rw_lock": {"RWLock": "SyncRWLock", "RWLockHold": "SyncRWLockHold"},
    "recipes.semaphore": {"Semaphore": "SyncSemaphore"},
    "recipes.election": {"Election": "SyncElection"},
    "recipes.party": {"Party": "SyncParty", "PartyMember": "SyncPartyMember"},
    "recipes.barrier": {"Barrier": "SyncBarrier", "DoubleBarrier": "SyncDoubleBarrier"},
    "recipes.queue": {"ItemTaker": "SyncItemTaker", "Queue": "SyncQueue", "PriorityQueue": "SyncPriorityQueue"},
    "recipes.counter": {"Counter": "SyncCounter"},
    "recipes.partitioner": {"Partitioner": "SyncPartitioner"},
    "recipes.cache": {"Cache": "SyncCache"},
    "recipes.stm": {"STM": "SyncSTM"},
}
"""Module, class, and the class that is generated from it."""
ROOT = "AsyncClient"
"""The class that users construct; objects of the others come from its methods."""
PARTS = {"Operations", "KVCalls", "WatchCalls", "LeaseCalls", "CoreCalls", "RecipeCalls"}
"""The classes that ROOT inherits from."""
PURE = {"Operations"}
"""Classes whose plain methods build a value, in any thread; those of others run in the loop's thread."""
SKIPPED = {
    "__del__",
    "__reduce__",
    "cancel_on_loss",
    "channel",
    "discard_callback",
    "lost_error",
    "stm",
    "take_now",
    "unique_nanoseconds",
}
HANDWRITTEN = {"RecipeCalls": ("tercet.client.facade_stm", "StmFacade")}
"""A further base of a class, with methods that cannot be generated."""
_MODULE_OF = {name: module for module, names in CLASSES.items() for name in names}
_SYNC_NAME = {name: made for names in CLASSES.values() for name, made in names.items()}
_PROTOCOL = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__"}
_ITERATORS = ("AsyncIterator", "AsyncGenerator", "AsyncIterable")
_WORDS = (
    (r"\basync with\b", "with"),
    (r"\basync for\b", "for"),
    (r"\bawait ", ""),
    (r"\bAn asynchronous iterator\b", "An iterator"),
    (r"\bfor one event loop\b", "for any number of threads"),
)


def main(arguments: list[str]) -> int:
    made = {_file(TARGET, module): generate(module) for module in CLASSES}
    if "--check" in arguments:
        stale = [path.name for path, text in made.items() if not path.exists() or not same(path.read_text(), text)]
        print(f"not up to date, run python -m tercet.client.generate_sync: {', '.join(stale)}" if stale else "up to date")
        return bool(stale)
    for path, text in made.items():
        path.write_text(text)
    subprocess.run([sys.executable, "-m", "ruff", "check", "--select", "I", "--fix", "-q", str(TARGET)], check=True)
    return subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(TARGET)], check=True).returncode


def _file(folder: Path, module: str) -> Path:
    return folder.joinpath(*module.split(".")).with_suffix(".py")


def same(one: str, other: str) -> bool:
    """Whether two modules differ in nothing but formatting and the order of imports."""
    return canonical(one) == canonical(other)


def canonical(text: str) -> list[str]:
    tree = ast.parse(text)
    imported, rest = set(), []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        else:
            rest.append(node)
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            inner.value = cleandoc(inner.value)
    return sorted(imported) + [ast.dump(node) for node in rest]


def generate(module: str) -> str:
    """The text of the synchronous twin of a module."""
    source = ast.parse(_file(HERE, module).read_text())
    classes = [
        SyncClass(node).make() for node in source.body if isinstance(node, ast.ClassDef) and node.name in CLASSES[module]
    ]
    doc = f"Generated from client/{module.replace('.', '/')}.py by `python -m tercet.client.generate_sync`: do not edit."
    body: list[ast.stmt] = [ast.Expr(ast.Constant(doc)), *imports(source, module, classes), *classes]
    return ast.unparse(ast.fix_missing_locations(ast.Module(body, [])))


def imports(source: ast.Module, module: str, classes: Iterable[ast.ClassDef]) -> list[ast.stmt]:
    """The source's imports as far as they are used, its own public names, the asynchronous and the synchronous classes."""
    used = {node.id for each in classes for node in ast.walk(each) if isinstance(node, ast.Name)}
    lines: list[ast.stmt] = []
    own = {made.name for made in classes}
    found = set(own)
    for node in source.body:
        if isinstance(node, ast.Import):
            kept = [alias for alias in node.names if (alias.asname or alias.name) in used]
            lines += [ast.Import(kept)] if kept else []
        elif isinstance(node, ast.ImportFrom):
            kept = [alias for alias in node.names if (alias.asname or alias.name) in used or node.module == "__future__"]
            lines += [ast.ImportFrom(node.module, kept, 0)] if kept else []
            found |= {alias.asname or alias.name for alias in kept}
    for name in sorted(used - found & set(_MODULE_OF)):
        if name in _MODULE_OF:
            lines.append(_import(f"tercet.client.{_MODULE_OF[name]}", name))
            found.add(name)
    by_sync_name = {made: name for name, made in _SYNC_NAME.items()}
    for name in sorted((used - own) & set(by_sync_name)):
        lines.append(_import(f"tercet.client.sync.{_MODULE_OF[by_sync_name[name]]}", name))
    for name in ("Facade", "Items"):
        lines += [_import("tercet.client.facade", name)] if name in used else []
    here = {name for node in source.body for name in _defined(node)} - set(_SYNC_NAME)
    for written_in, name in HANDWRITTEN.values():
        lines += [_import(written_in, name)] if name in used else []
    for name in sorted(used & here - found):
        lines.append(_import(f"tercet.client.{module}", name))
    return lines


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def _import(module: str, name: str) -> ast.ImportFrom:
    return ast.ImportFrom(module, [ast.alias(name)], 0)


class SyncClass:
    """One class in the making."""

    def __init__(self, source: ast.ClassDef) -> None:
        self._source = source
        self._name = _SYNC_NAME[source.name]

    def make(self) -> ast.ClassDef:
        given = [name for base in self._source.bases if (name := ast.unparse(base)) != "ABC"]
        bases: list[ast.expr] = [ast.parse(_SYNC_NAME.get(name, name), mode="eval").body for name in given]
        inner = ROOT if self._source.name in PARTS else self._source.name
        is_derived = any(name in _SYNC_NAME for name in given)
        if not is_derived:
            bases.append(ast.parse(f"Facade[{inner}]", mode="eval").body)
        if self._source.name in HANDWRITTEN:
            bases.append(ast.Name(HANDWRITTEN[self._source.name][1]))
        body: list[ast.stmt] = []
        if text := ast.get_docstring(self._source):
            body.append(_docstring(text, "    "))
        if is_derived and inner != ROOT:
            body += ast.parse(f"_inner: {inner}").body
        for node in self._source.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                made = self._method(node)
                body += [made] if made else []
            elif isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
                body.append(self._attribute(ast.unparse(node.target), ast.unparse(node.annotation)))
        return ast.ClassDef(self._name, bases, [], body, [])

    def _method(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.FunctionDef | None:
        name = _PROTOCOL.get(node.name, node.name)
        if node.name == "__init__":
            return self._constructor(node) if self._source.name == ROOT else None
        if node.name in SKIPPED or (name.startswith("_") and node.name not in _PROTOCOL and not name.startswith("__")):
            return None
        decorators = [ast.unparse(each) for each in node.decorator_list]
        if "classmethod" in decorators:
            copied = ast.parse(synchronous(ast.unparse(node))).body[0]
            assert isinstance(copied, ast.FunctionDef)
            return copied
        result = ast.unparse(node.returns) if node.returns else "None"
        if node.name == "__aiter__":
            body, result = "return self", self._name
        elif node.name == "__anext__":
            body = "return self._next_of(self._inner)"
        elif node.name == "__aenter__":
            body, result = "self._run(self._inner.__aenter__())\nreturn self", "Self"
        else:
            body, result = self._forward(node, decorators, result)
        return _function(name, _unwrapped(node.args), result, ast.get_docstring(node), body, node.decorator_list)

    def _forward(self, node: ast.FunctionDef | ast.AsyncFunctionDef, decorators: list[str], result: str) -> tuple[str, str]:
        """The body of a method, and the type of its result."""
        inner = f"self._inner.{node.name}"
        if "property" in decorators:
            return self._wrapped(inner, result)
        given = _passed(node.args)
        if result.startswith(_ITERATORS):
            items = ast.parse(result, mode="eval").body
            assert isinstance(items, ast.Subscript)
            first = items.slice.elts[0] if isinstance(items.slice, ast.Tuple) else items.slice
            item = ast.unparse(first)
            return f"return self._iterate({inner}({given}))", f"Items[{item}]"
        if isinstance(node, ast.AsyncFunctionDef):
            return self._wrapped(f"self._run({inner}({given}))", result)
        if self._source.name in PURE:
            return f"return {inner}({given})", result
        return self._wrapped(f"self._call({inner}{', ' if given else ''}{given})", result)

    def _wrapped(self, call: str, result: str) -> tuple[str, str]:
        """Results of asynchronous classes are wrapped by their synchronous ones; an object that returns itself, by itself."""
        if result == "Self":
            return f"{call}\nreturn self", result
        name, optional = re.fullmatch(r"(.*?)( \| None)?", result).groups()  # type: ignore[union-attr]
        if name not in _SYNC_NAME:
            return ("return " if result != "None" else "") + call, result
        is_bound = call.startswith(("self._run", "self._call")) and name != ROOT
        thread = "_thread" if is_bound else "_bound_thread"
        wrapped = f"{_SYNC_NAME[name]}._of(made, self.{thread})" + (" if made is not None else None" if optional else "")
        return f"made = {call}\nreturn {wrapped}", _SYNC_NAME[name] + (optional or "")

    def _attribute(self, name: str, kind: str) -> ast.FunctionDef:
        nothing = ast.arguments([], [ast.arg("self")], None, [], [], None, [])
        return _function(name, nothing, kind, None, f"return self._inner.{name}", [ast.Name("property")])

    def _constructor(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.FunctionDef:
        body = f"self._inner = {self._source.name}({_passed(node.args)})"
        return _function("__init__", node.args, "None", ast.get_docstring(node), body, [])


def _function(
    name: str, arguments: ast.arguments, result: str, doc: str | None, body: str, decorators: list[ast.expr]
) -> ast.FunctionDef:
    text = [_docstring(doc, "        ")] if doc else []
    statements: list[ast.stmt] = [*text, *ast.parse(body).body]
    returns = ast.parse(synchronous(result), mode="eval").body
    return ast.FunctionDef(name, arguments, statements, decorators, returns)


def _passed(arguments: ast.arguments) -> str:
    """The arguments of a function as it hands them to another one; synchronous objects as their asynchronous ones."""
    names = [_inner(each) for each in (*arguments.posonlyargs, *arguments.args)][1:]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [f"{each.arg}={_inner(each)}" for each in arguments.kwonlyargs]
    return ", ".join(names + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else []))


def _inner(argument: ast.arg) -> str:
    kind = ast.unparse(argument.annotation) if argument.annotation else ""
    if kind.removesuffix(" | None") not in _SYNC_NAME:
        return argument.arg
    return f"{argument.arg}._inner" + (f" if {argument.arg} is not None else None" if kind.endswith(" | None") else "")


def _unwrapped(arguments: ast.arguments) -> ast.arguments:
    """The arguments with the synchronous classes in their annotations."""
    made = ast.parse(f"def f({synchronous(ast.unparse(arguments))}): ...").body[0]
    assert isinstance(made, ast.FunctionDef)
    return made.args


def synchronous(text: str) -> str:
    """Code or documentation with the synchronous words and names."""
    for pattern, word in _WORDS:
        text = re.sub(pattern, word, text)
    for name, made in _SYNC_NAME.items():
        text = re.sub(rf"\b{name}\b", made, text)
    return text


def _docstring(text: str, indent: str) -> ast.stmt:
    """As it stands in the code: the lines after the first are indented, the last one closes it."""
    lines = synchronous(text).split("\n")
    if len(lines) > 1:
        lines = [lines[0], *(indent + line if line else "" for line in lines[1:]), indent]
    return ast.Expr(ast.Constant("\n".join(lines)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
