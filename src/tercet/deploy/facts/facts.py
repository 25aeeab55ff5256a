"""What is true of a host now? All that planning needs to know, read in one round trip.

    facts = await gather(host, Wanted(paths=("/etc/systemd/system/etcd.service",), unit="etcd", ports=(2379, 2380)))

The reading is done by `probe.py`, which travels to the host over stdin and runs under any python3 from 3.7 on. It changes
nothing. Contents are read only of the paths asked for, and never where a private key is in them.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tercet.deploy.facts import probe
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host, last_lines

FileKind = Literal["file", "directory", "link", "absent"]


@dataclass(frozen=True, kw_only=True)
class FileFact:
    """What stands at a path; links are not followed.

    sha256: of a file, in hexadecimal; of anything else empty. size: bytes of a file, entries of a directory.
    mode: permission bits only. target: of a link. content: of a file, if it was asked for and holds no private key.
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
    """A systemd unit, in systemd's words.

    load: "loaded", "not-found", "masked", "bad-setting", ...; empty where there is no systemd. active: "active", "activating",
    "failed", "inactive", ... sub: "running", "auto-restart", ... result: "success", "exit-code", "timeout", ...
    exec_line: the command line of ExecStart. since: when it entered its state, in seconds since 1970; 0 if it never ran.
    invocation: changes with each start.
    """

    load: str = ""
    active: str = ""
    sub: str = ""
    result: str = ""
    enabled: bool = False
    main_pid: int = 0
    needs_reload: bool = False
    exec_line: str = ""
    since: float = 0.0
    invocation: str = ""
    restarts: int = 0


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """A host, as far as `Wanted` asked.

    python: version of the interpreter asked for, None if there is none. systemd: its version, 0 if it does not run the host.
    clock_offset_seconds: the host's clock minus ours, known to within `clock_error_seconds`. users, groups: those of the ones
    asked for that exist. listeners: port to who listens on it, "unit etcd.service" or "process nginx (pid 123)"; free ports are
    not in it. disk_free: bytes that an ordinary user may still write, by the path asked for.
    fdatasync_seconds: how long each of some small synchronous writes took, in ascending order. reached: "address:port" to
    "" or why it cannot be reached. addresses: those of the ones asked for that the host can listen on.
    """

    hostname: str
    os_id: str
    os_version: str
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


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to find out.

    contents: those of `paths` whose text is wanted too. unit: with or without ".service". python: the interpreter whose version
    is wanted. disks: paths (they need not exist yet) whose disk's free bytes are wanted. fdatasync: a path whose disk's latency
    is measured. reach: (address, port) pairs to try. addresses: which of these could the host listen on?
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
    reach: tuple[tuple[str, int], ...] = ()
    addresses: tuple[str, ...] = ()


async def gather(host: Host, wanted: Wanted, *, timeout: float = 60, step: str = "gather facts") -> HostFacts:
    """Everything wanted, in one round trip. Raises HostError, also where the host has no Python 3.7 or newer."""
    before = time.time()
    done = await host.run_python(inspect.getsource(probe), json.dumps(asdict(wanted)).encode(), timeout=timeout, step=step)
    after = time.time()
    if done.exit_code:
        raise HostError(host.name, step, f"cannot find out about the host:\n{last_lines(done.stderr)}")
    try:
        return _facts(json.loads(done.stdout), before, after)
    except (ValueError, KeyError, TypeError) as error:
        raise HostError(host.name, step, f"the host answered what cannot be understood: {done.stdout[:200]!r}") from error


def _facts(answer: dict[str, Any], before: float, after: float) -> HostFacts:
    """An answer of the probe as facts. before, after: by our clock, when it was asked and when it had answered."""
    # It began after we asked and ended before we heard: the two clocks differ by something between these.
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
