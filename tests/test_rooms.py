"""The rules of the house that a machine can see: imports point down, modules say what they are for, files stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tercet"

# What each room may import, beside itself and the ground floor. Whatever is not here is above.
GROUND = {"errors", "version", "proto"}
BELOW: dict[str, set[str]] = {
    "raft": set(),
    "rpc": set(),
    "storage": {"raft"},
    "bolt": {"storage", "raft"},
    "peer": {"raft"},
    "mvcc": {"storage", "raft"},
    "lease": {"storage", "raft"},
    "replica": {"raft", "storage", "mvcc", "lease"},
    "http": {"rpc"},
    "services": {"replica", "mvcc", "lease", "storage", "bolt", "peer", "raft", "rpc"},
    "server": {"services", "http", "replica", "mvcc", "lease", "storage", "bolt", "peer", "raft", "rpc"},
    "client": {"rpc"},
    "pki": set(),
    "bench": {"client", "rpc", "pki"},
    "sim": {"replica", "mvcc", "lease", "storage", "bolt", "raft"},
    "deploy": {"client", "pki", "rpc", "server"},
    "cli": {"client", "server", "pki", "bench", "sim", "rpc", "deploy"},
}
# The largest room has floors of its own: what each folder may import of the others, lowest first, and of the rooms below.
INSIDE_DEPLOY: dict[str, set[str]] = {
    "cluster": set(),
    "draft": {"cluster"},
    "ssh": {"cluster"},
    "release": {"cluster"},
    "facts": {"cluster", "ssh"},
    "members": {"cluster", "ssh"},
    "plan": {"cluster", "ssh", "release", "facts"},
    "run": {"cluster", "ssh", "release", "facts", "members", "plan"},
    "deployment": {"cluster", "ssh", "facts", "members", "plan", "run"},
}
BELOW_DEPLOY: dict[str, set[str]] = {"cluster": {"server"}, "members": {"client", "rpc", "pki"}, "plan": {"pki"}}
# Rooms whose code may know an event loop; the rest is told what happens.
WITH_A_LOOP = {"rpc", "peer", "http", "services", "server", "client", "bench", "cli", "storage", "deploy"}
LINES_MAX = 500


def modules() -> Iterator[Path]:
    for path in sorted(SOURCE.rglob("*.py")):
        if not path.name.endswith("_pb2.py"):
            yield path


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = path.relative_to(SOURCE.parent).parts[: -node.level] if node.level else ()
            module = ".".join((*around, *filter(None, [node.module])))
            if module in ("tercet", "tercet.deploy"):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


@pytest.mark.parametrize("room", sorted(BELOW))
def test_imports_point_down(room: str) -> None:
    allowed = BELOW[room] | GROUND | {room}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        if room_of(path) == room
        for name in imports(path)
        if name.startswith("tercet.") and name.split(".")[1] not in allowed and not name.split(".")[1].startswith("__")
    ]
    assert not wrong


def test_every_room_is_on_the_plan() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert rooms == set(BELOW) | {"proto"}


@pytest.mark.parametrize("folder", INSIDE_DEPLOY)
def test_imports_point_down_inside_deploy(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        if room_of(path) == "deploy" and folder_of(path) == folder
        for name in imports(path)
        if name.startswith("tercet.") and not _is_below_in_deploy(folder, name)
    ]
    assert not wrong


def _is_below_in_deploy(folder: str, name: str) -> bool:
    """The front door itself (`tercet.deploy`, and what is taken from there) is above all folders."""
    _, room, *inside = name.split(".")
    if room == "deploy":
        return bool(inside) and inside[0] in INSIDE_DEPLOY[folder] | {folder}
    return room in BELOW_DEPLOY.get(folder, set()) | GROUND or room.startswith("__")


def test_the_plan_of_deploy_has_an_order_and_leaves_nothing_out() -> None:
    order = list(INSIDE_DEPLOY)
    assert all(below <= set(order[: order.index(folder)]) for folder, below in INSIDE_DEPLOY.items())
    assert {folder_of(path) for path in modules() if room_of(path) == "deploy"} == {*order, "__init__"}


def folder_of(path: Path) -> str:
    """Of a module in a room with folders: the folder, or the module's own name where it stands in none."""
    return path.relative_to(SOURCE).parts[1].removesuffix(".py")


def test_the_core_knows_no_loop() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        if room_of(path) not in WITH_A_LOOP
        for name in imports(path)
        if name.split(".")[0] in ("asyncio", "uvloop", "threading", "socket")
    ]
    assert not wrong


def test_the_core_knows_no_clock_and_no_chance() -> None:
    pattern = re.compile(r"\btime\.(time|monotonic|perf_counter)\(|\brandom\.(random|randint|choice)\(|os\.urandom\(")
    wrong = [
        str(path.relative_to(ROOT))
        for path in modules()
        if room_of(path) in ("raft", "replica", "mvcc", "lease") and pattern.search(path.read_text())
    ]
    assert not wrong


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(path.relative_to(ROOT)) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_no_file_outgrows_its_idea() -> None:
    large = {
        str(path.relative_to(ROOT)): count for path in modules() if (count := len(path.read_text().splitlines())) > LINES_MAX
    }
    assert not large


def test_architecture_names_what_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.py)`", text)
    assert len(named) > 20
    missing = [name for name in named if not (SOURCE / name).exists() and not (ROOT / name).exists()]
    assert not missing
