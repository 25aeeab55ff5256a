"""The bundle: content, running a member from it, and rejected platforms."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import pytest

import tercet
from tercet.deploy.cluster.settings import EngineSettings
from tercet.deploy.release import installed
from tercet.deploy.release.artifact import Artifact
from tercet.deploy.release.artifacts import prepare
from tercet.deploy.release.bundle import Target, contents
from tercet.deploy.release.cache import Cache
from tercet.deploy.release.elf import machine, without_debug
from tercet.deploy.release.installed import Installed, fingerprint
from tercet.deploy.release.launchers import launchers
from tercet.deploy.release.release import activate_command, install_command
from tercet.deploy.release.tarball import File, pack, unpack
from tercet.errors import ConfigError
from tests.support.processes import Cluster
from tests.support.waiting import scaled

HERE = sys.version_info[:2]
THIS_PYTHON = EngineSettings(python=sys.executable)
BYTES_MAX = 8 << 20


def ready(settings: EngineSettings, cache: Path, *, arch: str = "", python: tuple[int, int] | None = None) -> Artifact:
    return asyncio.run(prepare(settings, arch=arch or platform.machine(), python=python, cache=cache))


def refused(settings: EngineSettings, cache: Path, *, arch: str = "", python: tuple[int, int] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        ready(settings, cache, arch=arch, python=python)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run(*command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command with an almost empty environment."""
    return subprocess.run(command, capture_output=True, text=True, timeout=scaled(100), check=False, env=more)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def artifact(cache: Path) -> Artifact:
    return ready(THIS_PYTHON, cache)


@pytest.fixture(scope="module")
def home(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the bundle installed in opt/, as on a host, and links in bin/."""
    root = tmp_path_factory.mktemp("host")
    uploaded = root / "uploaded"
    uploaded.write_bytes(artifact.path.read_bytes())
    for command in (
        install_command(artifact, f"{root}/opt", str(uploaded)),
        activate_command(artifact, f"{root}/opt", f"{root}/bin"),
    ):
        done = run("/bin/sh", "-c", command, PATH=os.defpath)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return root


@pytest.fixture
def lone_member(home: Path, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster.plan(tmp_path, ("n1",), programs={"n1": (f"{home}/bin/tercet",)})
    yield cluster
    cluster.dispose()


# --- content


def test_metadata_of_an_artifact(artifact: Artifact) -> None:
    assert artifact.release == f"tercet-{tercet.__version__}-{artifact.sha256[:8]}"
    assert artifact.size == artifact.path.stat().st_size < BYTES_MAX


def test_the_bundle_has_only_runtime_files(artifact: Artifact) -> None:
    names = [file.path for file in unpack(artifact.path, lambda _name: True)]
    assert {name.split("/")[0] for name in names} == {"bundle.json", "bin", "lib", "main", "setup"}
    assert sorted(name for name in names if name.startswith("bin/")) == ["bin/tercet", "bin/tercetctl", "bin/tercetutl"]
    unneeded = (".pyc", ".pyi", ".pyx", ".pxd", ".c", ".h", ".pth", "/RECORD", "/direct_url.json")
    assert not [name for name in names if name.endswith(unneeded) or "/tests/" in name]
    for part in ("asyncssh", "click", "pydantic", "rich", "tercet/deploy", "tercet/bench"):
        assert not [name for name in names if name.startswith(f"lib/{part}/")], part


def test_a_member_gets_the_modules_that_it_imports_and_no_others() -> None:
    package = Path(tercet.__file__).parent
    needed: set[str] = set()
    to_visit = ["tercet.__main__", "tercet.server.main", "tercet.cli.start"]
    to_visit += ["tercet.cli.tercet", "tercet.cli.tercetctl", "tercet.cli.tercetutl"]
    # Commands are imported by name when they are used.
    to_visit += [
        ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for folder in ("ctl", "utl")
        for path in (package / "cli" / folder).rglob("*.py")
    ]
    while to_visit:
        path = package.parent / f"{to_visit.pop().replace('.', '/')}.py"
        path = path if path.exists() else path.with_suffix("") / "__init__.py"
        name = path.relative_to(package.parent).as_posix()
        if path.exists() and name not in needed:
            needed.add(name)
            to_visit += _imported(path)
    packed = {file.path for file in installed.tercet_files(compiled=False)}
    assert packed - needed <= {
        "tercet/proto/election_pb2.py",  # generated with the others
        "tercet/proto/lock_pb2.py",
        "tercet/server/metrics/prometheus.py",  # for programs that embed a member
    }
    assert needed <= packed


def _imported(path: Path) -> list[str]:
    """Every module imported by `path`, with its parent packages."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name[:end] for name in found for end in (*(match.start() for match in re.finditer(r"\.", name)), len(name))]


def test_the_description_lists_versions(artifact: Artifact) -> None:
    (description,) = unpack(artifact.path, lambda name: name == "bundle.json")
    content = json.loads(description.content)
    assert (content["version"], content["python"], content["arch"]) == (
        tercet.__version__,
        f"{HERE[0]}.{HERE[1]}",
        platform.machine(),
    )
    assert {"cryptography", "uvloop", "ngh2", "lmdb", "protobuf"} <= content["distributions"].keys()


def test_the_bundle_has_the_licenses(artifact: Artifact) -> None:
    names = [file.path.lower() for file in unpack(artifact.path, lambda name: ".dist-info/" in name)]
    assert {"uvloop", "lmdb", "ngh2"} <= {name.split("/")[1].split("-")[0] for name in names if "license" in name}


def test_bundles_are_reproducible(artifact: Artifact, tmp_path: Path) -> None:
    again = ready(THIS_PYTHON, tmp_path)
    assert again.path != artifact.path
    assert again.path.read_bytes() == artifact.path.read_bytes()


def test_the_bundle_is_cached(artifact: Artifact, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.deploy.release.cache.pack", None)
    assert ready(THIS_PYTHON, cache, python=HERE) == artifact


def test_an_installation_that_has_not_changed_is_not_read_again(
    artifact: Artifact, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every plan asks for the bundle; to read and hash all installed files takes longer than the plan itself."""
    with monkeypatch.context() as patch:
        patch.setattr("tercet.deploy.release.installed._file", None)
        assert ready(THIS_PYTHON, cache, python=HERE) == artifact


def test_the_fingerprint_of_an_installation_changes_with_each_file(tmp_path: Path) -> None:
    files = [Installed(tmp_path / name, name) for name in ("a.py", "b.py")]
    for one in files:
        one.source.write_bytes(b"same size")
    before = fingerprint(files)
    assert fingerprint(reversed(files)) == before
    assert fingerprint(files[:1]) != before
    os.utime(files[0].source, ns=(0, files[0].source.stat().st_mtime_ns + 1))
    touched = fingerprint(files)
    assert touched != before
    files[1].source.write_bytes(b"another size")
    assert fingerprint(files) not in (before, touched)
    files[0].source.unlink()
    with pytest.raises(ConfigError, match=r"a\.py: No such file.*reinstall"):
        fingerprint(files)


def test_shared_libraries_are_stripped() -> None:
    library = find_spec("uvloop.loop")
    assert library is not None
    assert library.origin is not None
    content = Path(library.origin).read_bytes()
    stripped = without_debug(content)
    assert len(stripped) < len(content)
    assert stripped[64:] == content[64 : len(stripped)]
    assert machine(stripped) == platform.machine()
    assert without_debug(stripped) == stripped


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, b"\x7fELF\x02\x01\x01" + bytes([255]) * 100])
def test_other_files_are_not_stripped(content: bytes) -> None:
    assert without_debug(content) == content


# --- on a host


def test_the_bundle_runs_a_member(lone_member: Cluster, home: Path, tmp_path: Path) -> None:
    """Independent of Python's environment variables and the working directory."""
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("tercet", "uvloop", "sitecustomize", "asyncio"):
        (trap / f"{name}.py").write_text("raise SystemExit('not this one')")
    member = lone_member["n1"]
    member.variables = {"PYTHONPATH": str(trap), "PYTHONHOME": str(trap), "PYTHONSTARTUP": str(trap), "PYTHONOPTIMIZE": "2"}
    member.directory = trap
    lone_member.start()
    ctl = (f"{home}/bin/tercetctl", f"--endpoints={member.endpoint}")
    assert run(*ctl, "put", "greeting", "hello").stdout == "OK\n"
    assert run(*ctl, "get", "greeting").stdout == "greeting\nhello\n"
    # The launcher uses exec, and resolves `current` at start.
    words = Path(f"/proc/{member.pid}/cmdline").read_bytes().split(b"\0")
    assert os.readlink(f"/proc/{member.pid}/exe") == os.path.realpath(sys.executable)
    assert f"{home}/opt/{os.readlink(f'{home}/opt/current')}/main/tercet.py" in os.fsdecode(b" ".join(words))
    assert member.stop() in (0, -15)


def test_all_modules_are_compiled_at_installation(home: Path) -> None:
    library = home / "opt" / "current" / "lib"
    modules = [path for path in library.rglob("*.py") if path.stem != "__pycache__"]
    compiled = {path.name.split(".")[0] for path in library.rglob("*.pyc")}
    assert {path.stem for path in modules} == compiled


def test_missing_subcommands_are_a_one_line_error(home: Path) -> None:
    for command in ("up", "bench", "sim"):
        done = run(f"{home}/bin/tercet", command)
        assert done.returncode == 1
        assert done.stderr.startswith("tercet: a bundle has no ")
        assert len(done.stderr.splitlines()) == 1


def unpacked(files: list[File], directory: Path) -> Path:
    for file in files:
        path = directory / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(0o755 if file.executable else 0o644)
    return directory


@pytest.mark.parametrize("name", ["bin/tercet", "bin/tercetctl", "setup/setup"])
def test_another_python_version_is_a_one_line_error(tmp_path: Path, name: str) -> None:
    home = unpacked(launchers(python=(3, 99), interpreter=sys.executable), tmp_path)
    done = run(home / name)
    assert done.returncode == 1
    assert done.stderr == (
        f"{name.split('/')[1]}: this release is for Python 3.99, but {sys.executable} is Python {HERE[0]}.{HERE[1]}: rerun "
        f"tercet deploy apply, or set engine.python in the cluster file\n"
    )


def test_a_missing_python_is_a_one_line_error(tmp_path: Path) -> None:
    home = unpacked(launchers(python=HERE, interpreter="/no/such/python"), tmp_path)
    done = run(home / "bin/tercet", "version")
    assert (done.returncode, done.stderr) == (1, "tercet: /no/such/python not found on this host\n")


def test_the_launchers_parse_under_old_pythons() -> None:
    for file in launchers(python=(3, 11), interpreter=None):
        if file.path.endswith(".py"):
            ast.parse(file.content, feature_version=(3, 4))


def test_a_bundle_that_cannot_be_imported_is_not_installed(artifact: Artifact, tmp_path: Path) -> None:
    files = [file for file in unpack(artifact.path, lambda _name: True) if not file.path.startswith("lib/h11/")]
    broken = tmp_path / "broken.tar.gz"
    with broken.open("wb") as to:
        pack(files, to)
    other = ready(EngineSettings(source=str(broken)), tmp_path / "cache")
    done = run("/bin/sh", "-c", install_command(other, f"{tmp_path}/opt", str(broken)), PATH=os.defpath)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"setup: {sys.executable} cannot import tercet: No module named 'h11'",
        f"{other.release} does not run on this host (see above)",
    ]
    assert os.listdir(tmp_path / "opt" / "releases") == []


# --- other installations


def test_compiled_modules_are_used_for_the_same_python_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tercet"
    (package / "raft" / "__pycache__").mkdir(parents=True)
    (package / "deploy" / "plan").mkdir(parents=True)
    for name in (
        "__init__.py",
        "raft/log.py",
        "raft/log.cpython-311-x86_64-linux-gnu.so",
        "raft/__pycache__/log.cpython-311.pyc",
        "deploy/plan/plan.py",
        "../tercet__mypyc.cpython-311-x86_64-linux-gnu.so",
        "../another.py",
    ):
        (package / name).touch()
    monkeypatch.setattr(tercet, "__file__", str(package / "__init__.py"))
    sources = {"tercet/__init__.py", "tercet/raft/log.py"}
    assert {file.path for file in installed.tercet_files(compiled=False)} == sources
    assert {file.path for file in installed.tercet_files(compiled=True)} == sources | {
        "tercet/raft/log.cpython-311-x86_64-linux-gnu.so",
        "tercet__mypyc.cpython-311-x86_64-linux-gnu.so",
    }


def test_a_missing_requirement_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = installed.distribution

    def find_all_but_one(name: str) -> object:
        if name == "lmdb":
            raise PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(installed, "distribution", find_all_but_one)
    assert refused(THIS_PYTHON, cache) == "tercet requires lmdb, which is not installed: reinstall tercet"


def test_an_editable_requirement_is_named(tmp_path: Path) -> None:
    information = tmp_path / "mine-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (information / "RECORD").write_text("__editable__.mine.pth,,\nmine-1.0.dist-info/METADATA,,\n")
    with pytest.raises(ConfigError, match=r"^mine 1.0 has no record of its files"):
        installed.distribution_files(installed.Distribution.at(information))


# --- other platforms


OTHER = (3, 12) if HERE != (3, 12) else (3, 13)


def wheels(directory: Path, without: str = "") -> Path:
    """Dummy wheels of the dependencies for another Python."""
    directory.mkdir()
    tag = f"cp{OTHER[0]}{OTHER[1]}"
    for name, found in installed.member_distributions().items():
        if name == without:
            continue
        module = name.replace("-", "_")
        stem = f"{module}-{found.version}"
        with zipfile.ZipFile(directory / f"{stem}-{tag}-{tag}-manylinux_2_17_aarch64.whl", "w") as wheel:
            wheel.writestr(f"{module}/__init__.py", "")
            wheel.writestr(f"{module}/tests/test_it.py", "")
            wheel.writestr(f"{stem}.data/purelib/{module}/pure.py", "")
            wheel.writestr(f"{stem}.data/scripts/{module}", "")
            wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {found.version}\n")
            wheel.writestr(f"{stem}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}-{tag}-manylinux_2_17_aarch64\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return directory


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return monkeypatch


def test_wheels_are_used_for_another_architecture(tmp_path: Path, offline: pytest.MonkeyPatch) -> None:
    offline.setenv("PIP_FIND_LINKS", str(wheels(tmp_path / "wheels")))
    target = Target("aarch64", OTHER)
    files = {file.path for file in contents(target, Cache(tmp_path / "cache"), lambda: None)}
    assert {"lib/uvloop/__init__.py", "lib/uvloop/pure.py", "lib/tercet/server/main.py"} <= files
    assert not [name for name in files if name.endswith(".so") or "/tests/" in name or ".data/" in name]
    offline.delenv("PIP_FIND_LINKS")  # cached now
    assert {file.path for file in contents(target, Cache(tmp_path / "cache"), lambda: None)} == files


def test_a_missing_wheel_is_an_error(tmp_path: Path, offline: pytest.MonkeyPatch) -> None:
    offline.setenv("PIP_FIND_LINKS", str(wheels(tmp_path / "wheels", without="lmdb")))
    message = refused(EngineSettings(), tmp_path / "cache", arch="aarch64", python=OTHER)
    assert message.startswith(
        f"the bundle for Python {OTHER[0]}.{OTHER[1]} on aarch64 cannot be built on this machine: no wheel of lmdb=="
    )


def test_an_old_python_is_rejected(cache: Path) -> None:
    message = refused(EngineSettings(), cache, python=(3, 9))
    assert message == "tercet requires Python 3.11 or newer on the hosts, found 3.9"


# --- existing bundles


def test_an_existing_bundle_is_accepted(artifact: Artifact, tmp_path: Path) -> None:
    settings = EngineSettings(source=str(artifact.path), sha256=artifact.sha256, version=tercet.__version__)
    taken = ready(settings, tmp_path)
    assert (taken.release, taken.sha256) == (artifact.release, artifact.sha256)


def test_a_bundle_for_another_platform_is_rejected(artifact: Artifact, tmp_path: Path) -> None:
    settings = EngineSettings(source=str(artifact.path))
    other_arch = "aarch64" if platform.machine() != "aarch64" else "x86_64"
    assert refused(settings, tmp_path, arch=other_arch).endswith(f"the host is {other_arch}")
    assert refused(settings, tmp_path, python=OTHER).endswith(f"the host has {OTHER[0]}.{OTHER[1]}")


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        (None, "not a tercet bundle"),
        (b"{", "not a tercet bundle"),
        (b"[]", "not a tercet bundle"),
        (b'{"format": 2, "version": "1", "python": "3.11", "arch": "x86_64"}', "unsupported bundle format"),
        (b'{"format": 1, "version": "../../etc", "python": "3.11", "arch": "x86_64"}', "'../../etc' is not a version"),
    ],
)
def test_invalid_bundles_are_rejected(tmp_path: Path, description: bytes | None, reason: str) -> None:
    path = tmp_path / "other.tar.gz"
    files = [File("bin/tercet", b""), File("bin/tercetctl", b"")]
    with path.open("wb") as to:
        pack(files if description is None else [*files, File("bundle.json", description)], to)
    assert reason in refused(EngineSettings(source=str(path)), tmp_path, arch="x86_64", python=(3, 11))


def test_settings_that_do_not_match_are_errors(cache: Path) -> None:
    assert refused(EngineSettings(version="9.9.9"), cache).startswith(
        "engine.version: expected 9.9.9, but the local installation is"
    )
    assert refused(EngineSettings(sha256="0" * 64), cache).startswith("engine.sha256 requires engine.source")
