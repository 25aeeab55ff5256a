"""tercet as one file: what a host needs to run a member, beside Python.

    bundle.json            what it is: version, Python, processor, and the versions of all that is in it
    bin/tercet tercetctl   started as they are, from any directory (`launchers.py`)
    setup/setup            run once, when it has been unpacked
    main/                  what the launchers run
    lib/                   tercet and the distributions it needs

It is made of what is installed here, so that hosts run what the operator runs. For the same Python and processor the installed
files are taken, compiled modules and all; for others, tercet's sources and wheels of the same versions (`wheels.py`).

A tar.gz and no zipapp: shared libraries cannot be loaded from an archive. Compiled modules (.pyc) are not in it: their bytes
vary from run to run, and the host makes them in a second or two.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tercet import __version__
from tercet.deploy.release.cache import Cache, pack_once
from tercet.deploy.release.elf import architecture
from tercet.deploy.release.installed import distribution_files, member_distributions, runs_here, tercet_files
from tercet.deploy.release.launchers import launchers
from tercet.deploy.release.tarball import File, unpack
from tercet.deploy.release.wheels import download, wheel_files
from tercet.errors import ConfigError

PYTHON_MIN = (3, 11)
_FORMAT = 1
_DESCRIPTION = "bundle.json"


@dataclass(frozen=True)
class Target:
    """What the hosts have. interpreter: the cluster file's name or path of Python there, None to look for one."""

    arch: str
    python: tuple[int, int]
    interpreter: str | None = None

    def __post_init__(self) -> None:
        if self.python < PYTHON_MIN:
            raise ConfigError(
                f"tercet needs Python {_dotted(PYTHON_MIN)} or newer on the hosts, there is {_dotted(self.python)}"
            )


def build(target: Target, cache: Cache, watcher: Callable[[int, int], None]) -> Path:
    """The bundle for these hosts; from the cache, if the same files were packed before. Raises ConfigError."""
    files = contents(target, cache, lambda: watcher(0, 0))
    return pack_once(files, cache, watcher)


def contents(target: Target, cache: Cache, check: Callable[[], None]) -> list[File]:
    """All files of a bundle. check: called while it waits, may raise to give up."""
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
    """The version of a bundle that was built elsewhere. Raises ConfigError if it is none, or not for such hosts."""
    found = {file.path: file for file in unpack(path, lambda entry: entry in (_DESCRIPTION, "bin/tercet", "bin/tercetctl"))}
    try:
        description = json.loads(found[_DESCRIPTION].content)
        form, version = description["format"], str(description["version"])
        its_python, its_arch = str(description["python"]), str(description["arch"])
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{name}: not a bundle of tercet: it has no (or another) {_DESCRIPTION}") from error
    if form != _FORMAT or len(found) < 3:
        raise ConfigError(f"{name}: a bundle of another form than this tercet installs: build it with tercet {__version__}")
    if its_arch != architecture(arch):
        raise ConfigError(f"{name}: a bundle for {its_arch}, the host is {architecture(arch)}")
    if python is not None and its_python != _dotted(python):
        raise ConfigError(f"{name}: a bundle for Python {its_python}, the host has {_dotted(python)}")
    return version


def _dotted(python: tuple[int, int]) -> str:
    return f"{python[0]}.{python[1]}"
