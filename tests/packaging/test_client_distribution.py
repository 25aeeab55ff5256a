"""The distribution tercet-client: a pure Python wheel of the client alone, which works with two dependencies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tercet import __version__
from tests.packaging.test_distributions import ROOT, run

if TYPE_CHECKING:
    from tests.support.etcd import Etcd

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300)]

PROGRAM = """
import asyncio, importlib, json, pkgutil, sys
import tercet

async def whole(endpoint):
    async with tercet.AsyncClient(endpoint) as client:
        await client.put("light", "1")
        async with client.watch("light") as watch, client.lock("light-lock", ttl_seconds=10) as lock:
            await client.txn(then=[client.put_op("light", "2")], guard=lock)
            async for batch in watch:
                return batch.events[0].kv.text()

read = asyncio.run(whole(sys.argv[1]))
with tercet.Client(sys.argv[1]) as client:
    again = client.get("light").text()
used = sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))
try:
    tercet.Server
except ImportError as error:
    refused = str(error)
broken = {}
for module in pkgutil.walk_packages(tercet.__path__, "tercet."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        broken[module.name] = str(error)
print(json.dumps({"read": read, "again": again, "used": used, "refused": refused, "broken": broken}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that builds leave nothing in the tree."""
    copy = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    made = copy / "packages" / "tercet-client"
    shutil.copytree(ROOT / "packages" / "tercet-client", made, ignore=shutil.ignore_patterns("build"))
    return made


def built(project: Path, target: Path) -> Path:
    """The wheel of a directory or of a source distribution."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", target]
    run(*pip, project, directory=target)
    (found,) = target.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def wheel(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(project, tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of the package."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.startswith("tercet/")}


def test_the_source_distribution_builds_the_same_wheel(project: Path, wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "setup.py", "-q", "sdist", "--dist-dir", tmp_path, directory=project)
    (archive,) = tmp_path.glob("tercet_client-*.tar.gz")
    (tmp_path / "wheel").mkdir()
    assert contents(built(archive, tmp_path / "wheel")) == contents(wheel)


def test_installing_the_client_beside_tercet_changes_no_file(wheel: Path) -> None:
    held = contents(wheel)
    assert held
    assert {name: (ROOT / "src" / name).read_bytes() for name in held} == held


def test_the_wheel_holds_the_client_alone(wheel: Path) -> None:
    assert wheel.name == f"tercet_client-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"tercet_client-{__version__}.dist-info"
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    folders = {name.split("/")[1] for name in names if name.startswith("tercet/") and name.count("/") > 1}
    assert folders - {"compat"} == {"client", "gotext", "proto", "rpc"}
    assert {"tercet/py.typed", "tercet/proto/rpc_pb2.pyi", f"{info}/licenses/LICENSE"} <= set(names)
    assert "tercet/__main__.py" not in names
    needed = sorted(one for one in metadata.get_all("Requires-Dist") if "extra ==" not in one)
    assert needed == ["ngh2<0.4,>=0.3", "protobuf>=4.25", 'protobuf>=5.27; python_version >= "3.14"']
    assert set(metadata.get_all("Provides-Extra")) == {"srv", "otel", "prometheus"}
    main = (ROOT / "LICENSE").read_text()
    assert (ROOT / "packages" / "tercet-client" / "LICENSE").read_text() == main


def test_the_wheel_works_in_an_environment_of_its_own(wheel: Path, shared_etcd: Etcd, tmp_path: Path) -> None:
    venv.create(tmp_path / "v", with_pip=True)
    python = tmp_path / "v" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, directory=tmp_path)
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check", directory=tmp_path))
    assert {one["name"] for one in listed} - {"pip", "setuptools"} == {"tercet-client", "ngh2", "protobuf"}
    words = [python, "-W", "error", "-c", PROGRAM, shared_etcd.client_url]
    outcome = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert outcome.returncode == 0, outcome.stderr
    shown = json.loads(outcome.stdout)
    assert (shown["read"], shown["again"]) == ("2", "2")
    assert {name for name in shown["used"] if name[0] != "_"} <= {"cython_runtime", "google", "ngh2", "sitecustomize", "tercet"}
    assert shown["refused"] == "tercet.Server needs the distribution tercet; tercet-client is the client alone"
    assert shown["broken"] == {}
