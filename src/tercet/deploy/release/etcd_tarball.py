"""Release tarballs of etcd: version, architecture, programs.

    etcd-v3.5.1-linux-amd64/etcd  etcdctl  etcdutl (since 3.5)  README.md  Documentation/...

The version is taken from the directory or the file name and checked against the cluster file; the architecture is read from the
ELF headers of the programs. Only the programs are copied to hosts.
"""

from __future__ import annotations

import re
from pathlib import Path

from tercet.deploy.release.elf import architecture, machine
from tercet.deploy.release.tarball import File, unpack
from tercet.errors import ConfigError

_REQUIRED = ("etcd", "etcdctl")
_PROGRAMS = (*_REQUIRED, "etcdutl")
_NAME = re.compile(r"etcd-v(\d+\.\d+\.\d+[0-9A-Za-z.+-]*?)-linux-[0-9a-z]+(?:\.tar\.gz)?")


def read(path: Path, *, name: str, arch: str, version: str | None) -> tuple[str, list[File]]:
    """The version, and the programs as files in bin/.

    name: original file name. version: engine.version of the cluster file. Raises ConfigError.
    """
    found = unpack(path, lambda entry: entry.rsplit("/", 1)[-1] in _PROGRAMS and entry.count("/") <= 1)
    programs = {file.path.rsplit("/", 1)[-1]: file for file in found}
    for program in _REQUIRED:
        if program not in programs:
            raise ConfigError(f"{name}: not an etcd release: it has no {program}")
    if len(programs) < len(found):
        raise ConfigError(f"{name}: not an etcd release: it has duplicate programs")
    _check_architecture(name, programs, arch)
    directory = programs["etcd"].path.rpartition("/")[0]
    files = [File(f"bin/{program}", file.content, executable=True) for program, file in programs.items()]
    return _version(name, directory, version), files


def _check_architecture(name: str, programs: dict[str, File], arch: str) -> None:
    for program, file in sorted(programs.items()):
        runs_on = machine(file.content)
        if runs_on is None:
            raise ConfigError(f"{name}: {program} is not a Linux program (not an ELF file)")
        if runs_on != architecture(arch):
            raise ConfigError(f"{name}: {program} is for {runs_on}, but the host is {architecture(arch)}")


def _version(name: str, directory: str, wanted: str | None) -> str:
    wanted = wanted.removeprefix("v") if wanted else None
    said = _NAME.fullmatch(directory) or _NAME.fullmatch(name.rsplit("/", 1)[-1])
    if said is None:
        if wanted is None:
            raise ConfigError(f"{name}: unknown version: set engine.version, or name the file etcd-vX.Y.Z-linux-ARCH.tar.gz")
        return wanted
    if wanted is not None and said[1] != wanted:
        raise ConfigError(f"{name}: version {said[1]}, but engine.version is {wanted}")
    return said[1]
