"""No dead code: every flag marked as used is read; every function, class and module constant of src is referenced in src.

References are matched by name: a dead function that shares its name with a live one is missed. What docs/client.md and
the other pages for users of the Python side name is an interface.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tercet.config.feature_gates import GATES
from tercet.config.flag_table import FLAGS

SOURCE = Path(__file__).parents[1] / "src" / "tercet"

# Flags that the config package itself consumes.
READ_BY_CONFIG = {
    "config_file": "names the file that replaces all other sources",
    "discovery_fallback": "checked: etcd refuses the value proxy",
    "version": "prints the version",
    "logger": "checked, then part of LogSettings",
    "log_outputs": "part of LogSettings",
    "log_level": "part of LogSettings",
    "log_format": "part of LogSettings",
    "enable_log_rotation": "part of LogSettings",
    "log_rotation_config_json": "part of LogSettings",
}


# Packages that other programs use, and the pages that document each.
PAGES = {
    "client": ("client.md",),
    "embed": ("embedding.md", "testing.md"),
    "simulation": ("simulation.md",),
    "testing": ("testing.md",),
}


@cache
def documented(page: str) -> set[str]:
    """The names in code of a page."""
    text = (SOURCE.parents[1] / "docs" / page).read_text()
    code = re.findall(r"```python\n.*?```|`[^`\n]+`", text, re.DOTALL)
    return set(re.findall(r"\w+", " ".join(code)))


def is_documented(file: str, name: str) -> bool:
    return any(name in documented(page) for page in PAGES.get(file.partition("/")[0], ()))


@cache
def called_like_the_originals() -> set[str]:
    """The names in tests of the packages that replace others, whose surface is the others'."""
    return {
        name for path in (SOURCE.parents[1] / "tests" / "compat").glob("*.py") for name in re.findall(r"\w+", path.read_text())
    }


@cache
def trees() -> dict[str, ast.Module]:
    paths = (path for path in sorted(SOURCE.rglob("*.py")) if not path.name.endswith("_pb2.py"))
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text()) for path in paths}


def test_every_flag_marked_as_used_is_read() -> None:
    read = {
        node.attr
        for name, tree in trees().items()
        if not name.startswith("config/") or name == "config/server_config.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and (ast.unparse(node.value).endswith("config") or name == "config/server_config.py")
    }
    used = {flag.field for flag in FLAGS.values() if flag.is_used}
    assert used - read == set(READ_BY_CONFIG)


def test_every_flag_that_is_read_is_marked_as_used() -> None:
    unused = {flag.field for flag in FLAGS.values() if not flag.is_used}
    read = {
        f"{name}: {node.attr}"
        for name, tree in trees().items()
        if not name.startswith("config/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in unused and ast.unparse(node.value).endswith("config")
    }
    assert not read


def test_every_gate_marked_as_used_is_read() -> None:
    named = {
        node.value
        for name, tree in trees().items()
        if name not in ("config/feature_gates.py", "config/flag_table.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    stages = {"AllAlpha", "AllBeta"}  # they set other gates
    assert {gate.name for gate in GATES if gate.is_used} - named - stages == set()


# Names that the code of others calls.
CALLED_FROM_OUTSIDE = {
    "_process_events": "asyncio.BaseEventLoop",
    "_run_once": "asyncio.BaseEventLoop",
    "_timer_handle_cancelled": "asyncio.BaseEventLoop",
    "_write_to_self": "asyncio.BaseEventLoop",
    "create_datagram_endpoint": "asyncio.AbstractEventLoop",
    "create_unix_server": "asyncio.AbstractEventLoop",
    "subprocess_exec": "asyncio.AbstractEventLoop",
    "subprocess_shell": "asyncio.AbstractEventLoop",
    "get_loop": "asyncio.AbstractServer",
    "is_serving": "asyncio.AbstractServer",
    "serve_forever": "asyncio.AbstractServer",
    "start_serving": "asyncio.AbstractServer",
    "get_write_buffer_limits": "asyncio.Transport",
    "is_reading": "asyncio.Transport",
    "writelines": "asyncio.Transport",
    "emit": "logging.Handler",
    "redirect_request": "urllib.request.HTTPRedirectHandler",
    "validate_host_public_key": "asyncssh.SSHClient",
    "tercetctl": "a console script, and the launcher of a bundle",
    "tercetutl": "a console script, and the launcher of a bundle",
    "resolve_command": "click.Group",
    "headers_received": "callers of the in-process channel",
    "define_messages": "generated modules, which this test does not read",
    "client_stream": "the constructors of handlers are a public set of four",
    "setUpClass": "unittest.TestCase",
    "pytest_addoption": "pytest",
    "pytest_configure": "pytest",
    "registry_of": "embedding programs add a member's metrics to their own registry",
}
# Kept for tests, which compare with it or inject faults through it.
FOR_TESTS = {
    "check_txn": "TxnCheck in one go",
    "encode_request_slowly": "the slow twin of encode_request",
}
# Without a caller until the feature named here is built.
WAITING = {
    "release_directory": "rolling back an upgrade",
}


@cache
def references() -> dict[str, list[tuple[str, int]]]:
    """(file, line) of each use of a name: loaded, or an attribute. Imports and `__all__` are no uses."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found[node.id].append((file, node.lineno))
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found[node.attr].append((file, node.lineno))
            elif isinstance(node, ast.Constant) and (named := re.fullmatch(r"[\w.]+:(\w+)", str(node.value))):
                found[named[1]].append((file, node.lineno))  # a command that is imported when it is used
    return found


def definitions() -> Iterator[tuple[str, str, ast.stmt]]:
    """(file, name, definition) of functions, methods, classes and module constants."""
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield file, node.name, node
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            for target in targets:
                if isinstance(target, ast.Name):
                    yield file, target.id, node


def is_referenced(file: str, name: str, node: ast.stmt) -> bool:
    inside = range(node.lineno, (node.end_lineno or node.lineno) + 1)
    return any(where != file or line not in inside for where, line in references()[name])


def is_registered(node: ast.stmt) -> bool:
    """A decorator that calls something, such as `@group.command()`, hands the function over."""
    decorators = getattr(node, "decorator_list", [])
    return any(
        isinstance(each, ast.Call) and ast.unparse(each.func).endswith((".command", ".group", ".fixture", ".hookimpl"))
        for each in decorators
    )


@cache
def unreferenced() -> dict[str, str]:
    """Files by name."""
    return {
        name: file
        for file, name, node in definitions()
        if not name.startswith("__") and not is_registered(node) and not is_referenced(file, name, node)
        if not is_documented(file, name)
        if not (file.startswith("compat/") and name in called_like_the_originals())
    }


def test_everything_in_src_is_referenced_in_src() -> None:
    excused = CALLED_FROM_OUTSIDE | FOR_TESTS | WAITING
    dead = {name: file for name, file in unreferenced().items() if name not in excused}
    assert dead == {}, "delete it, or add it to a list above with a reason"


def test_the_lists_of_exceptions_are_up_to_date() -> None:
    excused = CALLED_FROM_OUTSIDE | FOR_TESTS | WAITING
    assert excused.keys() - unreferenced().keys() == set(), "referenced now, or deleted: remove it from the list"
