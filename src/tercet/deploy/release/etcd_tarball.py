"""Is this a release of etcd that can run on the hosts, and which one?

    etcd-v3.5.1-linux-amd64/etcd  etcdctl  etcdutl (since 3.5)  README.md  Documentation/...

The version and the architecture are said by the directory, or by the file's name, and checked: the version against the cluster
file, the architecture against the headers of the programs themselves. Only the programs go to the hosts.
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
    """Its version, and its programs as files in bin/.

    name: what the file was called where it came from. version: what the cluster file asks for. Raises ConfigError.
    """
    found = unpack(path, lambda entry: entry.rsplit("/", 1)[-1] in _PROGRAMS and entry.count("/") <= 1)
    programs = {file.path.rsplit("/", 1)[-1]: file for file in found}
    for program in _REQUIRED:
        if program not in programs:
            raise ConfigError(f"{name}: not a release of etcd: there is no {program} in it")
    if len(programs) < len(found):
        raise ConfigError(f"{name}: not a release of etcd: its programs are in it more than once")
    _check_architecture(name, programs, arch)
    directory = programs["etcd"].path.rpartition("/")[0]
    files = [File(f"bin/{program}", file.content, executable=True) for program, file in programs.items()]
    return _version(name, directory, version), files


def _check_architecture(name: str, programs: dict[str, File], arch: str) -> None:
    for program, file in sorted(programs.items()):
        runs_on = machine(file.content)
        if runs_on is None:
            raise ConfigError(f"{name}: {program} in it is not a program for Linux (no ELF file)")
        if runs_on != architecture(arch):
            raise ConfigError(f"{name}: {program} in it is for {runs_on}, the host is {architecture(arch)}: take its tarball")


def _version(name: str, directory: str, wanted: str | None) -> str:
    wanted = wanted.removeprefix("v") if wanted else None
    said = _NAME.fullmatch(directory) or _NAME.fullmatch(name.rsplit("/", 1)[-1])
    if said is None:
        if wanted is None:
            raise ConfigError(
                f"{name}: does not say which version it is: set engine.version, or call it etcd-vX.Y.Z-linux-ARCH.tar.gz"
            )
        return wanted
    if wanted is not None and said[1] != wanted:
        raise ConfigError(f"{name}: is version {said[1]}, engine.version asks for {wanted}")
    return said[1]
