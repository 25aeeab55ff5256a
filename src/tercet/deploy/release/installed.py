"""The files of the local installation that a member needs: tercet and its dependencies.

tercet's modules are read from its package directory (also in an editable install), dependencies by their RECORD. Modules and
distributions used only by the operator are omitted; the launchers of the bundle report that on a host.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
from collections.abc import Iterable, Iterator
from fnmatch import translate
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.metadata import PackagePath as RecordedPath
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import tercet
from tercet.deploy.release.elf import without_debug
from tercet.deploy.release.tarball import File
from tercet.errors import ConfigError

OPERATOR_DISTRIBUTIONS = frozenset({"asyncssh", "click", "pydantic", "rich"})
CLIENT_DISTRIBUTION = "tercet-client"
"""Its files are among tercet's modules, and its requirements among tercet's."""
OPERATOR_MODULES = (
    "bench/*",
    "cli/bench*",
    "cli/click_group*",
    "cli/deploy*",
    "cli/metrics/command*",
    "cli/metrics/dashboard*",
    "cli/metrics/rules*",
    "cli/pki*",
    "cli/simulate*",
    "cli/up*",
    "client/generate*",
    "compat/*",
    "deploy/*",
    "client/extras*",
    "client/otel*",
    "client/prometheus*",
    "embed/measure*",
    "pki/age*",
    "pki/cfssl_*",
    "pki/json_file*",
    "proto/generate*",
    "raft/invariants*",
    "sim/*",
    "simulation/*",
    "testing/*",
)
# Needed only by developers and installers.
_OMITTED = (
    "*.c",
    "*.cpp",
    "*.h",
    "*.pth",
    "*.pxd",
    "*.pxi",
    "*.pyc",
    "*.pyi",
    "*.pyo",
    "*.pyx",
    "*/RECORD",
    "*/direct_url.json",
)
_OMITTED_DIRECTORIES = {"__pycache__", "test", "tests", "testing"}
_OPERATOR_MODULE = re.compile("|".join(map(translate, OPERATOR_MODULES)))
_OMITTED_FILE = re.compile("|".join(translate(f"*{pattern}") for pattern in _OMITTED))
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)[^;]*(?:;(.*))?", re.DOTALL)


class Installed(NamedTuple):
    """An installed file, and its path relative to lib/ of the bundle."""

    source: Path
    place: str


def runs_here(arch: str, python: tuple[int, int]) -> bool:
    """Whether the local installation runs on that platform: same CPython version and machine, Linux with glibc."""
    return (
        sys.platform == "linux"
        and sys.implementation.name == "cpython"
        and sys.version_info[:2] == python
        and platform.machine() == arch
        and platform.libc_ver()[0] == "glibc"
    )


def member_distributions() -> dict[str, Distribution]:
    """The distributions that a member needs besides tercet, by name: its requirements, recursively."""
    found: dict[str, Distribution] = {}
    to_visit = _requirements(_find("tercet"))
    while to_visit:
        name, optional = to_visit.pop()
        if name in found or name in OPERATOR_DISTRIBUTIONS or name == CLIENT_DISTRIBUTION:
            continue
        try:
            found[name] = _find(name)
        except PackageNotFoundError as error:
            if optional:  # its environment marker does not apply here
                continue
            raise ConfigError(f"tercet requires {name}, which is not installed: reinstall tercet") from error
        to_visit += _requirements(found[name])
    return dict(sorted(found.items()))


def tercet_paths(*, compiled: bool) -> Iterator[Installed]:
    """tercet's modules. compiled: include compiled modules, if any."""
    package = Path(tercet.__file__).parent
    paths = [path for path in package.rglob("*.py") if _belongs_to_a_member(path.relative_to(package))]
    if compiled:
        paths += [path for path in package.rglob("*.so") if _belongs_to_a_member(path.relative_to(package))]
        paths += package.parent.glob("tercet__mypyc.*.so")  # the shared library of the compiled modules
    for path in paths:
        yield Installed(path, path.relative_to(package.parent).as_posix())


def distribution_paths(found: Distribution) -> Iterator[Installed]:
    """The modules and metadata of an installed distribution. Raises ConfigError if its RECORD has none."""
    recorded = [path for path in found.files or () if _wanted(path)]
    modules = [path for path in recorded if not path.parts[0].endswith((".dist-info", ".egg-info"))]
    if not modules:
        raise ConfigError(
            f"{_title(found)} has no record of its files (an editable install or a system package): install tercet with pip "
            "into a virtual environment"
        )
    for path in recorded:
        yield Installed(Path(str(path.locate())), path.as_posix())


def tercet_files(*, compiled: bool) -> list[File]:
    """The content of `tercet_paths`."""
    return [_file(one) for one in tercet_paths(compiled=compiled)]


def distribution_files(found: Distribution) -> list[File]:
    """The content of `distribution_paths`. Raises ConfigError also if a file is missing."""
    try:
        return [_file(one) for one in distribution_paths(found)]
    except FileNotFoundError as error:
        raise ConfigError(f"{_title(found)} is damaged: {error.filename} is missing; reinstall it") from error


def fingerprint(paths: Iterable[Installed]) -> str:
    """Changes when a file does: by name, size and times, without reading any. Raises ConfigError for a missing file."""
    digest = hashlib.sha256()
    for one in sorted(paths, key=lambda one: one.place):
        try:
            status = one.source.stat()
        except OSError as error:
            raise ConfigError(f"{one.source}: {error.strerror or error}; reinstall tercet") from error
        digest.update(f"{one.place}\0{one.source}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n".encode())
    return digest.hexdigest()


def keep(path: PurePosixPath) -> bool:
    """Whether a file of a distribution is needed at run time."""
    if path.is_absolute() or ".." in path.parts or _OMITTED_DIRECTORIES.intersection(path.parts[:-1]):
        return False
    return _OMITTED_FILE.match(f"/{path}") is None


def library(path: str, content: bytes) -> File:
    """A file of a distribution, with shared libraries stripped."""
    if ".so" in PurePosixPath(path).suffixes:
        return File(path, without_debug(content))
    return File(path, content)


def _find(name: str) -> Distribution:
    return distribution(name)


def _requirements(found: Distribution) -> list[tuple[str, bool]]:
    """(normalised name, whether it has an environment marker), without requirements of extras."""
    names: list[tuple[str, bool]] = []
    for line in found.requires or ():
        match = _REQUIREMENT.fullmatch(line)
        if match and not (match[2] and "extra" in match[2]):
            names.append((re.sub(r"[-_.]+", "-", match[1]).lower(), match[2] is not None))
    return names


def _belongs_to_a_member(path: Path) -> bool:
    return _OPERATOR_MODULE.match(path.as_posix()) is None


def _wanted(path: RecordedPath) -> bool:
    return keep(PurePosixPath(path))


def _title(found: Distribution) -> str:
    return f"{found.metadata['Name']} {found.version}"


def _file(one: Installed) -> File:
    return library(one.place, one.source.read_bytes())
