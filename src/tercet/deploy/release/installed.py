"""Which files does tercet consist of on this machine, with what it needs to run a member?

Read from the running installation, whatever made it: tercet itself from the directory it is imported from (in an editable
install that is all there is), its dependencies by their RECORD. Left out is what only the operator needs; the launchers of the
bundle say so in words where somebody asks for it on a host.
"""

from __future__ import annotations

import platform
import re
import sys
from fnmatch import fnmatch
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.metadata import PackagePath as RecordedPath
from pathlib import Path, PurePosixPath

import tercet
from tercet.deploy.release.elf import without_debug
from tercet.deploy.release.tarball import File
from tercet.errors import ConfigError

OPERATORS_DISTRIBUTIONS = frozenset({"asyncssh", "click", "pydantic", "rich"})
OPERATORS_MODULES = (
    "bench/*",
    "cli/bench*",
    "cli/deploy*",
    "cli/pki*",
    "cli/simulate*",
    "cli/up*",
    "deploy/*",
    "pki/*",
    "proto/generate*",
    "raft/invariants*",
    "sim/*",
)
# What only developers and installers read.
_LEFT_OUT = (
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
_LEFT_OUT_DIRECTORIES = {"__pycache__", "test", "tests", "testing"}
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)[^;]*(?:;(.*))?", re.DOTALL)


def runs_here(arch: str, python: tuple[int, int]) -> bool:
    """Whether what is installed here would run there: the same kind of Python and machine, and Linux with glibc."""
    return (
        sys.platform == "linux"
        and sys.implementation.name == "cpython"
        and sys.version_info[:2] == python
        and platform.machine() == arch
        and platform.libc_ver()[0] == "glibc"
    )


def member_distributions() -> dict[str, Distribution]:
    """The distributions that a member needs beside tercet itself, by name: tercet's requirements, and theirs."""
    found: dict[str, Distribution] = {}
    to_visit = _requirements(_find("tercet"))
    while to_visit:
        name, optional = to_visit.pop()
        if name in found or name in OPERATORS_DISTRIBUTIONS:
            continue
        try:
            found[name] = _find(name)
        except PackageNotFoundError as error:
            if optional:  # for another system or Python than this one
                continue
            raise ConfigError(f"tercet needs {name}, which is not installed here: install tercet again") from error
        to_visit += _requirements(found[name])
    return dict(sorted(found.items()))


def tercet_files(*, compiled: bool) -> list[File]:
    """tercet's own modules, as paths below a directory of modules. compiled: with what was compiled here, if anything was."""
    package = Path(tercet.__file__).parent
    paths = [path for path in package.rglob("*.py") if _belongs_to_a_member(path.relative_to(package))]
    if compiled:
        paths += [path for path in package.rglob("*.so") if _belongs_to_a_member(path.relative_to(package))]
        paths += package.parent.glob("tercet__mypyc.*.so")  # what the compiled modules have in common
    return [_file(path, path.relative_to(package.parent).as_posix()) for path in paths]


def distribution_files(found: Distribution) -> list[File]:
    """What an installed distribution put beside its modules; not its programs. Raises ConfigError if that is not on record."""
    name = f"{found.metadata['Name']} {found.version}"
    recorded = [path for path in found.files or () if _wanted(path)]
    modules = [path for path in recorded if not path.parts[0].endswith((".dist-info", ".egg-info"))]
    if not modules:
        raise ConfigError(
            f"{name} is installed here in a way that does not say which files it has (an editable install, or a "
            f"package of the system): install tercet with pip into a virtual environment"
        )
    try:
        return [_file(Path(str(path.locate())), path.as_posix()) for path in recorded]
    except FileNotFoundError as error:
        raise ConfigError(f"{name} is damaged here: {error.filename} is missing. Install it again") from error


def keep(path: PurePosixPath) -> bool:
    """Whether a file of a distribution is needed where it only runs."""
    if path.is_absolute() or ".." in path.parts or _LEFT_OUT_DIRECTORIES.intersection(path.parts[:-1]):
        return False
    return not any(fnmatch(f"/{path}", f"*{pattern}") for pattern in _LEFT_OUT)


def library(path: str, content: bytes) -> File:
    """A file of a distribution, without what is only for debuggers."""
    if ".so" in PurePosixPath(path).suffixes:
        return File(path, without_debug(content))
    return File(path, content)


def _find(name: str) -> Distribution:
    return distribution(name)


def _requirements(found: Distribution) -> list[tuple[str, bool]]:
    """(normalised name, whether it depends on circumstances), without what only extras ask for."""
    names: list[tuple[str, bool]] = []
    for line in found.requires or ():
        match = _REQUIREMENT.fullmatch(line)
        if match and not (match[2] and "extra" in match[2]):
            names.append((re.sub(r"[-_.]+", "-", match[1]).lower(), match[2] is not None))
    return names


def _belongs_to_a_member(path: Path) -> bool:
    return not any(fnmatch(path.as_posix(), pattern) for pattern in OPERATORS_MODULES)


def _wanted(path: RecordedPath) -> bool:
    return keep(PurePosixPath(path))


def _file(source: Path, path: str) -> File:
    return library(path, source.read_bytes())
