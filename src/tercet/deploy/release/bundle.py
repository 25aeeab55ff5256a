"""The bundle: tercet as one file, with everything that a member needs besides Python.

    bundle.json            description: version, Python, architecture, and the versions of all distributions
    bin/tercet tercetctl   programs, relocatable (`launchers.py`)
    setup/setup            runs once after unpacking
    main/                  Python entry points of the programs
    lib/                   tercet and its dependencies

It is built from the local installation, so that hosts run the same code as the operator. For the same Python and architecture
the installed files are used, including compiled modules; otherwise tercet's sources and wheels of the same versions
(`wheels.py`).

It is a tar.gz, not a zipapp, since shared libraries cannot be loaded from an archive. It has no .pyc files, whose bytes are not
reproducible; the host compiles them in a second or two.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tercet import __version__
from tercet.deploy.release.cache import Cache, pack_once
from tercet.deploy.release.elf import architecture
from tercet.deploy.release.installed import (
    distribution_files,
    distribution_paths,
    fingerprint,
    member_distributions,
    runs_here,
    tercet_files,
    tercet_paths,
)
from tercet.deploy.release.launchers import launchers
from tercet.deploy.release.tarball import File, unpack
from tercet.deploy.release.wheels import download, wheel_files
from tercet.errors import ConfigError

PYTHON_MIN = (3, 11)
_FORMAT = 1
_DESCRIPTION = "bundle.json"


@dataclass(frozen=True)
class Target:
    """The platform of the hosts. interpreter: engine.python of the cluster file; None to search for one."""

    arch: str
    python: tuple[int, int]
    interpreter: str | None = None

    def __post_init__(self) -> None:
        if self.python < PYTHON_MIN:
            raise ConfigError(
                f"tercet requires Python {_dotted(PYTHON_MIN)} or newer on the hosts, found {_dotted(self.python)}"
            )


def build(target: Target, cache: Cache, watcher: Callable[[int, int], None]) -> Path:
    """The bundle for these hosts, from the cache if possible. Raises ConfigError.

    An installation that has not changed since the last time is not read again.
    """
    name = _name(target)
    if (path := cache.recall(name)) is None:
        path = pack_once(contents(target, cache, lambda: watcher(0, 0)), cache, watcher)
        cache.remember(name, path.name)
    return path


def _name(target: Target) -> str:
    """The inputs of a bundle, for the cache."""
    here = runs_here(target.arch, target.python)
    distributions = member_distributions()
    paths = [*tercet_paths(compiled=here)]
    if here:
        paths += [path for found in distributions.values() for path in distribution_paths(found)]
    versions = " ".join(f"{name}=={found.version}" for name, found in distributions.items())
    interpreter = target.interpreter or ""
    return f"bundle {_FORMAT} {__version__} {target.arch} {target.python} {interpreter} {versions} {fingerprint(paths)}"


def contents(target: Target, cache: Cache, check: Callable[[], None]) -> list[File]:
    """All files of a bundle. check: called while waiting; may raise to cancel."""
    here = runs_here(target.arch, target.python)
    distributions = member_distributions()
    versions = {name: found.version for name, found in distributions.items()}
    libraries = tercet_files(compiled=here)
    if here:
        for found in distributions.values():
            libraries += distribution_files(found)
    else:
        wheels = download(versions, arch=target.arch, python=target.python, directory=cache.wheels, check=check)
        for wheel in wheels.values():
            libraries += wheel_files(wheel)
    description = {
        "format": _FORMAT,
        "version": __version__,
        "python": _dotted(target.python),
        "arch": target.arch,
        "distributions": versions,
    }
    return [
        File(_DESCRIPTION, (json.dumps(description, indent=1, sort_keys=True) + "\n").encode()),
        *launchers(python=target.python, interpreter=target.interpreter),
        *(File(f"lib/{file.path}", file.content, file.executable) for file in libraries),
    ]


def version_of(path: Path, *, name: str, arch: str, python: tuple[int, int] | None) -> str:
    """The version of an existing bundle. Raises ConfigError if it is not a bundle, or not for this platform."""
    found = {file.path: file for file in unpack(path, lambda entry: entry in (_DESCRIPTION, "bin/tercet", "bin/tercetctl"))}
    try:
        description = json.loads(found[_DESCRIPTION].content)
        form, version = description["format"], str(description["version"])
        its_python, its_arch = str(description["python"]), str(description["arch"])
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{name}: not a tercet bundle: missing or invalid {_DESCRIPTION}") from error
    if form != _FORMAT or len(found) < 3:
        raise ConfigError(f"{name}: unsupported bundle format: build it with tercet {__version__}")
    if its_arch != architecture(arch):
        raise ConfigError(f"{name}: bundle for {its_arch}, but the host is {architecture(arch)}")
    if python is not None and its_python != _dotted(python):
        raise ConfigError(f"{name}: bundle for Python {its_python}, but the host has {_dotted(python)}")
    return version


def _dotted(python: tuple[int, int]) -> str:
    return f"{python[0]}.{python[1]}"
