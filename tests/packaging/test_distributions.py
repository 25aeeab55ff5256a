"""The sdist and the wheel of `python -m build`: what they contain, and that they work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tercet import __version__
from tests.support.waiting import scaled

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]


def run(*words: str | Path, directory: Path, **variables: str) -> str:
    done = subprocess.run(
        list(map(str, words)),
        cwd=directory,
        env={**os.environ, "TERCET_WHOLE": "", **variables},
        capture_output=True,
        text=True,
        timeout=scaled(300),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of an sdist."""
    target = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", target, ROOT, directory=target)
    (archive,) = target.glob("tercet-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    return target / f"tercet-{__version__}"


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uncompiled wheel, built from the sdist."""
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", target]
    run(*build, unpacked, directory=target, TERCET_COMPILE="0")
    (found,) = target.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def client_wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of tercet-client."""
    target = tmp_path_factory.mktemp("client")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", target]
    run(*build, unpacked / "packages" / "tercet-client", directory=target)
    (found,) = target.glob("*.whl")
    return found


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def requirements(wheel: Path) -> list[str]:
    """Those without an extra."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    return [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]


def test_the_sdist_has_every_tracked_file(unpacked: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    if not tracked:
        pytest.skip("not a git checkout")
    assert not [name for name in tracked if name != ".gitignore" and not (unpacked / name).is_file()]


def test_tests_run_from_the_sdist(unpacked: Path) -> None:
    words = [sys.executable, "-m", "pytest", "tests/raft/test_scripts.py", "tests/cli/test_command.py"]
    assert " passed" in run(*words, "-o", "addopts=", directory=unpacked, PYTHONPATH=str(unpacked / "src"))


def test_a_release_requires_the_client_and_shares_no_file_with_it(unpacked: Path, wheel: Path, client_wheel: Path) -> None:
    required = f"tercet-client=={__version__}"
    assert required in requirements(wheel)
    assert f"Requires-Dist: {required}" in (unpacked / "PKG-INFO").read_text().splitlines()  # what resolvers read
    assert not files(wheel) & files(client_wheel)
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert sources <= files(wheel) | files(client_wheel)


def test_a_build_of_the_whole_contains_the_client(unpacked: Path, wheel: Path, client_wheel: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path]
    run(*build, unpacked, directory=tmp_path, TERCET_COMPILE="0", TERCET_WHOLE="1")
    (whole,) = tmp_path.glob("*.whl")
    assert files(whole) >= files(wheel) | files(client_wheel)
    assert not [line for line in requirements(whole) if line.startswith("tercet")]


def test_the_wheel_has_types_licence_and_links(wheel: Path, client_wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"tercet-{__version__}.dist-info"
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    stubs = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.pyi")}
    assert {"tercet/py.typed", "tercet/__main__.py", f"{info}/licenses/LICENSE"} | stubs <= names | files(client_wheel)
    assert not [name for name in names if name.startswith("tests/")]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert any(url.startswith("Repository, https://") for url in metadata.get_all("Project-URL"))
    assert "asyncssh" not in [req for req in metadata.get_all("Requires-Dist") if "extra ==" not in req]
    links = re.findall(r"\]\(([^)]*)\)", str(metadata.get_payload()))
    assert links
    assert not [link for link in links if not link.startswith(("https://", "#"))]


def test_the_installed_wheels_run(wheel: Path, client_wheel: Path, tmp_path: Path) -> None:
    """With this environment's dependencies."""
    venv.create(tmp_path / "v", system_site_packages=False, with_pip=True)
    python = tmp_path / "v" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel, client_wheel, directory=tmp_path)
    dependencies = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    shown = run(python, "-m", "tercet", "version", directory=tmp_path, PYTHONPATH=dependencies)
    assert shown.startswith(f"tercet version: {__version__}\n")
    (tmp_path / "test_order.py").write_text("def test_it(tercet_client): tercet_client.put('a', '1')")
    words = ["-W", "error::pytest.PytestAssertRewriteWarning", "-p", "no:cacheprovider", "test_order.py"]
    assert " passed" in run(python, "-m", "pytest", *words, directory=tmp_path, PYTHONPATH=dependencies)


def test_a_missing_compiler_is_reported_before_the_analysis(unpacked: Path, tmp_path: Path) -> None:
    words = [sys.executable, "setup.py", "build_ext", "--build-temp", tmp_path, "--build-lib", tmp_path]
    shown = run(*words, directory=unpacked, CC="/nonexistent/cc")
    assert "tercet: installing without compiled modules" in shown
    assert "/nonexistent/cc" in shown
    failed = subprocess.run(
        list(map(str, words)),
        cwd=unpacked,
        env={**os.environ, "CC": "/nonexistent/cc", "TERCET_COMPILE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 1
    assert "tercet: TERCET_COMPILE=1, but a C compiler and Python's headers are needed" in failed.stderr
