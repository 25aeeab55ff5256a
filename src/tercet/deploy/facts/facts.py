"""Facts of a host, gathered in one round trip.

    facts = await gather(host, Wanted(paths=("/etc/systemd/system/etcd.service",), unit="etcd", ports=(2379, 2380)))

`probe.py` is sent over stdin and runs under any python3 from 3.7 on. It changes nothing. It returns the contents of the
requested paths only, and never of a private key.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tercet.deploy.facts import probe
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host, last_lines

FileKind = Literal["file", "directory", "link", "absent"]


@dataclass(frozen=True, kw_only=True)
class FileFact:
    """A path; links are not followed.

    sha256: of a file, in hexadecimal; otherwise empty. size: bytes of a file, entries of a directory. mode: permission bits
    only. target: of a link. content: of a file, if requested and without a private key.
    """

    kind: FileKind
    sha256: str = ""
    size: int = 0
    mode: int = 0
    owner: str = ""
    group: str = ""
    target: str = ""
    content: str | None = None

    @property
    def exists(self) -> bool:
        return self.kind != "absent"


@dataclass(frozen=True, kw_only=True)
class UnitFact:
    """A systemd unit, in systemd's terms.

    load: "loaded", "not-found", "masked", "bad-setting", ...; empty where there is no systemd. active: "active", "activating",
    "failed", "inactive", ... sub: "running", "auto-restart", ... result: "success", "exit-code", "timeout", ...
    exec_line: the command line of ExecStart. since: when it entered its state, in seconds since 1970; 0 if it never ran.
    invocation: changes with each start. drop_ins: paths of the files that override this unit's settings.
    """

    load: str = ""
    active: str = ""
    sub: str = ""
    result: str = ""
    enabled: bool = False
    needs_reload: bool = False
    exec_line: str = ""
    since: float = 0.0
    invocation: str = ""
    restarts: int = 0
    drop_ins: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "drop_ins", tuple(self.drop_ins))  # JSON has lists


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """A host, as far as requested by `Wanted`.

    python: version of the interpreter, None if missing. systemd: its version, 0 if it is not the init system.
    clock_offset_seconds: the host's clock minus the local clock, with an error of up to `clock_error_seconds`. users, groups:
    the existing ones. listeners: port to owner, "unit etcd.service" or "process nginx (pid 123)"; free ports are absent.
    disk_free: bytes available to unprivileged users, by path. fdatasync_seconds: durations of small synchronous writes, in
    ascending order. reached: "address:port" to "" or the error. addresses: those that the host can bind. versions: by path, the
    first line of `PROGRAM --version`.
    """

    hostname: str
    os_name: str
    arch: str
    python: tuple[int, int, int] | None
    systemd: int
    is_root: bool
    clock_offset_seconds: float
    clock_error_seconds: float
    files: Mapping[str, FileFact]
    unit: UnitFact
    users: frozenset[str]
    groups: frozenset[str]
    listeners: Mapping[int, str]
    disk_free: Mapping[str, int]
    fdatasync_seconds: tuple[float, ...] = ()
    reached: Mapping[str, str] = field(default_factory=dict)
    addresses: frozenset[str] = frozenset()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A request for facts.

    contents: subset of `paths` to read. unit: with or without ".service". python: interpreter to query. disks: paths, existing
    or not, to report free space for. fdatasync: path whose disk's latency is measured; fdatasync_beside_unit: also while the
    unit runs. reach: (address, port) pairs to connect to. addresses: addresses to bind. programs: paths of programs to run
    with `--version`.
    """

    paths: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    unit: str = ""
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    python: str = "python3"
    disks: tuple[str, ...] = ()
    fdatasync: str = ""
    fdatasync_beside_unit: bool = True
    reach: tuple[tuple[str, int], ...] = ()
    addresses: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


async def gather(host: Host, wanted: Wanted, *, timeout: float = 60, step: str = "gather facts") -> HostFacts:
    """Gather the requested facts. Raises HostError, also for a host without Python 3.7 or newer."""
    before = time.time()
    done = await host.run_python(inspect.getsource(probe), json.dumps(asdict(wanted)).encode(), timeout=timeout, step=step)
    after = time.time()
    if done.exit_code:
        raise HostError(host.name, step, f"the probe failed:\n{last_lines(done.stderr)}")
    try:
        return _facts(json.loads(done.stdout), before, after)
    except (ValueError, KeyError, TypeError) as error:
        raise HostError(host.name, step, f"unexpected output of the probe: {done.stdout[:200]!r}") from error


def _facts(answer: dict[str, Any], before: float, after: float) -> HostFacts:
    """Convert the probe's output. before, after: local time of the request and of the response."""
    # The probe ran between `before` and `after`: these are the bounds of the clock offset.
    most, least = answer.pop("began") - before, answer.pop("ended") - after
    python = answer.pop("python")
    return HostFacts(
        clock_offset_seconds=(most + least) / 2,
        clock_error_seconds=abs(most - least) / 2,
        python=(python[0], python[1], python[2]) if python else None,
        files={path: FileFact(**fact) for path, fact in answer.pop("files").items()},
        unit=UnitFact(**answer.pop("unit")),
        users=frozenset(answer.pop("users")),
        groups=frozenset(answer.pop("groups")),
        listeners={int(port): who for port, who in answer.pop("listeners").items()},
        fdatasync_seconds=tuple(answer.pop("fdatasync_seconds")),
        addresses=frozenset(answer.pop("addresses")),
        **answer,
    )
