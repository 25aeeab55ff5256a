"""Wheels of the dependencies for another Python or architecture, downloaded with pip.

The versions are exactly the locally installed ones, which were tested together; a version without a wheel for the hosts is an
error. Downloads are cached; pip runs only if a wheel is missing.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from tercet.deploy.release.installed import keep, library
from tercet.deploy.release.tarball import File
from tercet.errors import ConfigError

SECONDS_MAX = 600
_GLIBC_MINORS = range(28, 4, -1)  # wheels for glibc 2.28 and older: all systems that have Python 3.11
_OLDER_NAMES = ("manylinux2014", "manylinux2010", "manylinux1")


def download(
    versions: Mapping[str, str], *, arch: str, python: tuple[int, int], directory: Path, check: Callable[[], None]
) -> dict[str, Path]:
    """A wheel for each distribution, by name. check: called while waiting; may raise to cancel. Raises ConfigError."""
    directory = (
        directory / f"cp{python[0]}{python[1]}-{arch}"
    )  # one directory per target, so that name and version identify a file
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    wheels = _find_all(versions, directory)
    if len(wheels) < len(versions):
        code, output = _run(_pip_download(versions, arch, python, directory), check)
        if code != 0:
            raise ConfigError(_explain(output, arch, python))
        wheels = _find_all(versions, directory)
    for name in versions.keys() - wheels.keys():
        raise ConfigError(f"pip downloaded no wheel of {name} {versions[name]} to {directory}")
    return wheels


def wheel_files(path: Path) -> list[File]:
    """The files of a wheel at their installed paths, relative to lib/. Raises ConfigError."""
    files: list[File] = []
    try:
        with zipfile.ZipFile(path) as wheel:
            for entry in wheel.infolist():
                place = _place(PurePosixPath(entry.filename))
                if place is not None and not entry.is_dir() and keep(place):
                    files.append(library(place.as_posix(), wheel.read(entry)))
    except (zipfile.BadZipFile, OSError) as error:
        raise ConfigError(f"{path}: damaged wheel ({error}): delete it and try again") from error
    return files


def _place(path: PurePosixPath) -> PurePosixPath | None:
    """Map NAME.data/purelib/a.py to a.py; the rest of NAME.data (programs, headers) is not needed."""
    if not path.parts[0].endswith(".data"):
        return path
    if len(path.parts) > 2 and path.parts[1] in ("purelib", "platlib"):
        return PurePosixPath(*path.parts[2:])
    return None


def _pip_download(versions: Mapping[str, str], arch: str, python: tuple[int, int], directory: Path) -> list[str]:
    platforms = [f"manylinux_2_{minor}_{arch}" for minor in _GLIBC_MINORS] + [f"{name}_{arch}" for name in _OLDER_NAMES]
    major, minor = python
    return [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet", "--no-deps"),
        *("--only-binary=:all:", "--implementation=cp", f"--python-version={major}.{minor}"),
        *(f"--abi={abi}" for abi in (f"cp{major}{minor}", "abi3", "none")),
        *(f"--platform={platform}" for platform in platforms),
        f"--dest={directory}",
        *(f"{name}=={version}" for name, version in versions.items()),
    ]


def _run(command: list[str], check: Callable[[], None]) -> tuple[int, str]:
    """Exit code and stderr of pip, which is killed if `check` raises or on timeout."""
    deadline = time.monotonic() + SECONDS_MAX
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as pip:
        try:
            while True:
                try:
                    _, output = pip.communicate(timeout=0.2)
                    return pip.returncode, output
                except subprocess.TimeoutExpired:
                    check()
                    if time.monotonic() > deadline:
                        raise ConfigError(
                            f"pip download timed out after {SECONDS_MAX} s: is the package index reachable?"
                        ) from None
        except BaseException:
            pip.kill()
            raise


def _explain(output: str, arch: str, python: tuple[int, int]) -> str:
    what = f"the bundle for Python {python[0]}.{python[1]} on {arch} cannot be built on this machine"
    if "No module named pip" in output:
        return f"{what}: {sys.executable} has no pip (run python -m ensurepip)"
    missing = re.search(r"No matching distribution found for (\S+)", output)
    if missing:
        return (
            f"{what}: no wheel of {missing[1]} available. Run this on a machine with that Python and architecture, or set "
            f"engine.source to a bundle built there"
        )
    last = [line for line in output.splitlines() if line.strip()]
    return f"{what}: pip: {last[-1] if last else 'no output'}"


def _find_all(versions: Mapping[str, str], directory: Path) -> dict[str, Path]:
    """The wheels of these versions in the directory, by name; pip does not report the files it downloads."""
    here = {
        (_normalised(name), version): path for path in directory.glob("*.whl") for name, version in [path.name.split("-")[:2]]
    }
    return {name: here[key] for name, version in versions.items() if (key := (_normalised(name), version)) in here}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
