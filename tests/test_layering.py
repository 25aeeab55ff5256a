"""Structure: imports point down and form no circle, modules have docstrings, files and classes stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tercet"

# What each package may import, besides itself and BASE.
BASE = {
    *("client_memory", "disk_sync", "errors", "intake", "lazy_exports", "log_fields", "owned_directory", "slots", "version"),
    "proto",
}
BELOW: dict[str, set[str]] = {
    "gotext": set(),
    "containers": set(),
    "raft": set(),
    "rpc": set(),
    "tls": set(),
    "http1": {"gotext", "tls"},
    "storage": {"raft"},
    "bolt": {"storage"},
    "peer": {"raft", "http1", "gotext"},
    "mvcc": {"storage", "containers"},
    "lease": {"storage", "containers"},
    "auth": {"storage", "containers"},
    "replica": {"raft", "storage", "mvcc", "lease", "auth", "gotext"},
    "http": {"http1"},
    "gateway": {"http1", "rpc", "gotext"},
    "services": {"gotext", "replica", "auth", "lease", "mvcc", "storage", "bolt", "raft", "rpc"},
    "config": {"gotext"},
    "server": {
        "client",
        "config",
        "gotext",
        "services",
        "gateway",
        "http",
        "http1",
        "replica",
        "lease",
        "auth",
        "mvcc",
        "storage",
        "bolt",
        "peer",
        "raft",
        "rpc",
        "tls",
    },
    "client": {"rpc", "gotext"},
    "compat": {"client", "rpc"},
    "embed": {"client", "server", "services", "replica", "storage", "peer", "raft", "rpc", "http1", "config", "pki"},
    "testing": {"client", "embed", "replica", "rpc", "services", "sim"},
    "simulation": {"client", "embed", "server"},
    "pki": set(),
    "bench": {"client", "rpc", "pki", "storage"},
    "sim": {"peer", "replica", "auth", "lease", "mvcc", "storage", "raft"},
    "deploy": {"bolt", "client", "pki", "rpc", "config", "gotext"},
    "cli": {
        "client",
        "server",
        "replica",
        "mvcc",
        "storage",
        "bolt",
        "raft",
        "config",
        "gotext",
        "pki",
        "bench",
        "sim",
        "deploy",
    },
}
# The folders of `deploy`, lowest first: what each may import of the others, and of the packages below.
INSIDE_DEPLOY: dict[str, set[str]] = {
    "on_host": set(),
    "cluster": set(),
    "draft": {"cluster"},
    "ssh": {"cluster"},
    "release": {"cluster"},
    "facts": {"cluster", "ssh"},
    "members": {"cluster", "ssh"},
    "plan": {"cluster", "ssh", "release", "facts", "on_host"},
    "run": {"cluster", "ssh", "release", "facts", "members", "plan"},
    "access": {"cluster", "ssh", "members", "plan", "run"},
    "deployment": {"access", "cluster", "ssh", "facts", "members", "plan", "run"},
}
BELOW_DEPLOY: dict[str, set[str]] = {
    "cluster": {"config", "gotext"},
    "members": {"bolt", "client", "rpc", "pki", "gotext"},
    "plan": {"pki"},
    "run": {"pki"},
    "deployment": {"pki"},
}
# Packages that may use an event loop or threads; the others do no I/O of their own.
WITH_ASYNCIO = {
    "intake",
    "client_memory",
    "slots",
    "tls",
    "rpc",
    "peer",
    "http",
    "http1",
    "gateway",
    "services",
    "server",
    "client",
    "compat",
    "bench",
    "cli",
    "storage",
    "deploy",
    "embed",
    "testing",
    "simulation",
}
LINES_MAX = 450
METHODS_MAX = 25


@cache
def modules() -> tuple[Path, ...]:
    return tuple(path for path in sorted(SOURCE.rglob("*.py")) if not path.name.endswith("_pb2.py"))


def package_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else parts[0].removesuffix(".py")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every imported name, dotted and in full; those under TYPE_CHECKING and inside functions too."""
    known = {module_name(each) for each in modules()}
    found: list[str] = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.append(name if name in known else node.module)
    return tuple(found)


@pytest.mark.parametrize("package", sorted(BELOW))
def test_imports_point_down(package: str) -> None:
    allowed = BELOW[package] | BASE | {package}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        if package_of(path) == package
        for name in imports(path)
        if name.startswith("tercet.") and name.split(".")[1] not in allowed and not name.split(".")[1].startswith("__")
    ]
    assert not wrong


@pytest.mark.parametrize("package", sorted(BELOW))
def test_a_package_may_import_only_what_it_does_import(package: str) -> None:
    used = {name.split(".")[1] for path in modules() if package_of(path) == package for name in imports(path) if "." in name}
    assert BELOW[package] <= used, "BELOW allows more than is needed"


def test_every_package_is_listed() -> None:
    packages = {path.name for path in SOURCE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert packages == set(BELOW) | {"proto"}


def test_no_import_runs_in_a_circle() -> None:
    known = {module_name(path) for path in modules()}
    # tercet/__init__.py imports its names when they are used.
    eager = [path for path in modules() if path != SOURCE / "__init__.py"]
    graph = {module_name(path): {name for name in imports(path) if name in known} - {module_name(path)} for path in eager}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports form a circle: {' -> '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize("folder", INSIDE_DEPLOY)
def test_imports_point_down_inside_deploy(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        if package_of(path) == "deploy" and folder_of(path) == folder
        for name in imports(path)
        if name.startswith("tercet.") and not _is_below_in_deploy(folder, name)
    ]
    assert not wrong


def _is_below_in_deploy(folder: str, name: str) -> bool:
    """`tercet.deploy` itself, and what is imported from it, is above all of its folders."""
    _, package, *inside = name.split(".")
    if package == "deploy":
        return bool(inside) and inside[0] in INSIDE_DEPLOY[folder] | {folder}
    return package in BELOW_DEPLOY.get(folder, set()) | BASE or package.startswith("__")


def test_the_folders_of_deploy_are_ordered_and_complete() -> None:
    order = list(INSIDE_DEPLOY)
    assert all(below <= set(order[: order.index(folder)]) for folder, below in INSIDE_DEPLOY.items())
    assert {folder_of(path) for path in modules() if package_of(path) == "deploy"} == {*order, "__init__"}


def folder_of(path: Path) -> str:
    """Of a module inside `deploy`: its folder, or its own name where it is in none."""
    return path.relative_to(SOURCE).parts[1].removesuffix(".py")


def test_the_core_imports_no_event_loop() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        if package_of(path) not in WITH_ASYNCIO
        for name in imports(path)
        if name.split(".")[0] in ("asyncio", "uvloop", "threading", "socket")
    ]
    assert not wrong


def test_the_core_reads_no_clock_and_no_random_source() -> None:
    pattern = re.compile(r"\btime\.(time|monotonic|perf_counter)\(|\brandom\.(random|randint|choice)\(|os\.urandom\(")
    wrong = [
        str(path.relative_to(ROOT))
        for path in modules()
        if package_of(path) in ("raft", "replica", "mvcc", "lease") and pattern.search(path.read_text())
    ]
    assert not wrong


def test_every_module_has_a_docstring() -> None:
    silent = [str(path.relative_to(ROOT)) for path in modules() if not ast.get_docstring(tree_of(path))]
    assert not silent


def test_no_file_is_too_long() -> None:
    large = {
        str(path.relative_to(ROOT)): count for path in modules() if (count := len(path.read_text().splitlines())) > LINES_MAX
    }
    assert not large


def test_no_class_has_too_many_methods() -> None:
    large = {
        f"{path.relative_to(ROOT)}: {name}": count
        for path in modules()
        for name, count in _methods(path)
        if count > METHODS_MAX
    }
    assert not large


def _methods(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ClassDef):
            yield node.name, sum(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in node.body)


def test_loggers_are_called_logger() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).endswith("getLogger")
        and [ast.unparse(target) for target in node.targets] != ["logger"]
    ]
    assert not wrong


def test_architecture_names_files_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)`", text)
    assert len(named) > 20
    missing = [name for name in named if not (SOURCE / name).exists() and not (ROOT / name).exists()]
    assert not missing


def test_nothing_reads_the_cause_of_an_exception() -> None:
    """`raise X from Y` in a compiled module leaves `__cause__` empty: a reason that matters is a field of X."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and node.attr == "__cause__"
    ]
    assert not wrong


def test_names_that_are_imported_on_first_use_have_types() -> None:
    """A type checker takes what a package's `__getattr__` returns for an object, which cannot be called or subclassed."""
    without: dict[str, set[str]] = {}
    for path in modules():
        if path.name != "__init__.py" or path.parent.name == "sim":  # whose two names are those of a package above it
            continue
        tree = ast.parse(path.read_text())
        assigned = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        is_lazy = "__getattr__" in assigned or any(getattr(node, "name", "") == "__getattr__" for node in tree.body)
        if is_lazy:
            typed = {
                alias.asname or alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
            without[str(path)] = set(ast.literal_eval(assigned["__all__"])) - typed
    assert without
    assert not any(without.values()), without
