"""The preflight checks: one pure function each, from the facts of a host to findings.

"ok" findings are returned too, so that the report shows what was checked. "error" means that the deployment would fail or be
broken; "warning" means that it works now but has a risk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from tercet.deploy.cluster.cluster import Cluster, HostSpec, host_port
from tercet.deploy.facts.facts import HostFacts

Level = Literal["error", "warning", "ok"]
Purpose = Literal["install", "certificates", "first start"]
"""Kinds of work of a plan: copying a release, copying newly created certificates, starting a member without data."""

PYTHON_MIN = (3, 11)
SYSTEMD_MIN = 232  # the oldest with all directives of the unit
ARCHITECTURES = {"tercet": ("x86_64", "aarch64"), "etcd": ("x86_64", "aarch64", "ppc64le", "s390x")}
HOSTS_APART_SECONDS = 1.0  # etcd logs a warning from this drift on
FROM_HERE_SECONDS = 60.0  # a new certificate may not be valid on the host yet
DATA_BYTES_MIN = 256 << 20  # two WAL segments of 64 MB, a small database, and reserve
INSTALL_BYTES_MIN = 128 << 20
SYNC_SECONDS_SLOW = 0.010  # the limit in etcd's hardware guide


@dataclass(frozen=True)
class Finding:
    """Result of one check on one host. remedy: what the operator can do; empty for "ok".

    purpose: the only kind of work that an error prevents; None if it prevents any.
    """

    host: str
    check: str
    level: Level
    text: str
    remedy: str = ""
    purpose: Purpose | None = None


@dataclass(frozen=True)
class HostContext:
    """A host's facts and settings. clock: median of all hosts' clocks minus the local clock, in seconds.

    is_local_clock_off: the hosts agree with each other, so that the local clock is reported instead of theirs.
    """

    cluster: Cluster
    spec: HostSpec
    facts: HostFacts
    clock: float
    is_local_clock_off: bool = False

    def ok(self, check: str, text: str) -> Finding:
        return Finding(self.spec.name, check, "ok", text)

    def error(self, check: str, text: str, remedy: str, purpose: Purpose | None = None) -> Finding:
        return Finding(self.spec.name, check, "error", text, remedy, purpose)

    def warning(self, check: str, text: str, remedy: str) -> Finding:
        return Finding(self.spec.name, check, "warning", text, remedy)

    @property
    def unit(self) -> str:
        return f"{self.cluster.service.unit}.service"


Check: TypeAlias = Callable[[HostContext], Iterator[Finding]]


def ports(cluster: Cluster) -> tuple[int, ...]:
    """Ports that a member listens on."""
    metrics = urlsplit(cluster.listen.metrics_url).port if cluster.listen.metrics_url else None
    return (cluster.listen.client_port, cluster.listen.peer_port, *([metrics] if metrics else []))


def check_login(context: HostContext) -> Iterator[Finding]:
    if context.facts.is_root:
        yield context.ok("ssh", f"connected, root on {context.facts.hostname}")
    else:
        yield context.error(
            "sudo", "commands do not run as root, even with sudo", "check the sudoers entry of the login, or set ssh.user: root"
        )


def check_system(context: HostContext) -> Iterator[Finding]:
    facts, engine = context.facts, context.cluster.engine.kind
    if facts.arch not in ARCHITECTURES[engine]:
        known = ", ".join(ARCHITECTURES[engine])
        yield context.error("system", f"{engine} does not support {facts.arch}", f"use a host with {known}")
    else:
        yield context.ok("system", f"{facts.os_name}, {facts.arch}")


def check_systemd(context: HostContext) -> Iterator[Finding]:
    version = context.facts.systemd
    if not version:
        yield context.error("systemd", "systemd is not the init system", "use a host that is booted with systemd")
    elif version < SYSTEMD_MIN:
        yield context.error("systemd", f"systemd {version} is too old", f"upgrade it to {SYSTEMD_MIN} or newer")
    else:
        yield context.ok("systemd", f"systemd {version}")
    if context.facts.unit.load == "masked":
        yield context.error("systemd", f"{context.unit} is masked", f"run systemctl unmask {context.unit}")


def check_python(context: HostContext) -> Iterator[Finding]:
    """Only for tercet; etcd needs no Python."""
    if context.cluster.engine.kind != "tercet":
        return
    python = context.cluster.engine.python or "python3"
    needed = ".".join(map(str, PYTHON_MIN))
    remedy = f"install Python {needed} or newer and set engine.python to its path"
    if context.facts.python is None:
        yield context.error("python", f"{python} not found", remedy)
    elif context.facts.python < PYTHON_MIN:
        found = ".".join(map(str, context.facts.python))
        yield context.error("python", f"{python} is Python {found}, tercet requires {needed}", remedy)
    else:
        yield context.ok("python", "Python " + ".".join(map(str, context.facts.python)))


def check_clock(context: HostContext) -> Iterator[Finding]:
    """The hosts should agree with each other; the operator's clock matters only for the certificates created with it."""
    error = context.facts.clock_error_seconds
    from_here = context.facts.clock_offset_seconds
    from_hosts = from_here - context.clock
    remedy = "enable time synchronisation on the host: timedatectl set-ntp true"
    if abs(from_here) - error > FROM_HERE_SECONDS and not context.is_local_clock_off:
        text = f"clock is {_apart(from_here)} this machine: new certificates may not be valid on the host"
        yield context.error("clock", text, remedy, "certificates")
    elif abs(from_hosts) - error > HOSTS_APART_SECONDS:
        yield context.warning("clock", f"clock is {_apart(from_hosts)} the other hosts", remedy)
    else:
        yield context.ok("clock", f"within {max(abs(from_hosts), error):.2f} s of the other hosts")


def check_address(context: HostContext) -> Iterator[Finding]:
    address = context.spec.address
    if address not in context.facts.addresses:
        yield context.error(
            "address",
            f"{address} is not an address of this host, so the member cannot listen on it",
            "set address to an address of the host, and ssh.host if SSH uses another one",
        )
    else:
        yield context.ok("address", f"{address} is local")


def check_ports(context: HostContext) -> Iterator[Finding]:
    ours = f"unit {context.unit}"
    wanted = ports(context.cluster)
    taken = {port: who for port in wanted if (who := context.facts.listeners.get(port, ours)) != ours}
    for port, who in taken.items():
        name = who.removeprefix("unit ")
        stop = f"run systemctl disable --now {name}" if who.startswith("unit ") else f"stop it (ss -ltnp sport = :{port})"
        yield context.error("ports", f"port {port} is in use by {name}", f"{stop}, or set another port under listen")
    if not taken:
        state = "in use by the member" if context.facts.listeners else "free"
        yield context.ok("ports", f"{', '.join(map(str, wanted))} {state}")


def check_user(context: HostContext) -> Iterator[Finding]:
    service = context.cluster.service
    missing = [f"user {service.user}"] * (service.user not in context.facts.users)
    missing += [f"group {service.group}"] * (service.group not in context.facts.groups)
    if not missing:
        yield context.ok("user", f"{service.user}:{service.group}")
    elif service.create_user:
        yield context.ok("user", f"{' and '.join(missing)} will be created")
    else:
        yield context.error(
            "user",
            f"{' and '.join(missing)} not found",
            "create it, set service.create_user: true, or set another service.user",
        )


def check_directories(context: HostContext) -> Iterator[Finding]:
    """Conflicts with existing files. A missing directory is fine: it will be created."""
    paths, files = context.cluster.paths, context.facts.files
    directories = [paths.install, paths.certificates, paths.backups, paths.data, *([paths.wal] if paths.wal else [])]
    wrong = [path for path in [*directories, *([paths.bin] if paths.bin else [])] if files[path].kind == "file"]
    for path in wrong:
        yield context.error(
            "directories", f"{path} is a file, not a directory", "move it away, or set another path under paths"
        )
    used = [*_conflicting_data(context)]
    yield from used
    if not wrong and not used:
        there = sum(files[path].exists for path in directories)
        yield context.ok("directories", "no conflicts" if there else "will be created")


def _conflicting_data(context: HostContext) -> Iterator[Finding]:
    paths, service = context.cluster.paths, context.cluster.service
    for path in [paths.data, *([paths.wal] if paths.wal else [])]:
        fact = context.facts.files[path]
        if fact.kind != "directory" or not fact.size:
            continue
        if fact.owner != service.user:
            yield context.error(
                "directories",
                f"{path} is not empty and owned by {fact.owner}: a member running as {service.user} could not use it",
                f"run chown -R {service.user}: {path} if it is data of this cluster, or set service.user: {fact.owner}",
            )
        elif context.facts.unit.load == "not-found":
            yield context.warning(
                "directories",
                f"{path} has data, but there is no {context.unit}: the member will start from this data",
                "move it away to start a new cluster",
            )


def check_disk(context: HostContext) -> Iterator[Finding]:
    paths, free = context.cluster.paths, context.facts.disk_free
    data = paths.data
    needed: list[tuple[str, int, Purpose]] = [
        (data, DATA_BYTES_MIN, "first start"),
        (paths.install, INSTALL_BYTES_MIN, "install"),
    ]
    short = [path for path, least, _ in needed if free[path] < least]
    for path, least, purpose in needed:
        if path in short:
            text = f"{_bytes(free[path])} free for {path}, at least {_bytes(least)} required"
            yield context.error("disk", text, "free space, or set another path under paths", purpose)
    if data not in short and free[data] < context.cluster.quota_backend_bytes:
        quota = context.cluster.quota_backend_bytes
        text = f"{_bytes(free[data])} free for {data}, less than the quota of {_bytes(quota)}"
        yield context.warning("disk", text, "use a larger disk, or lower quota_backend_bytes")
    elif not short:
        yield context.ok("disk", f"{_bytes(free[data])} free for {data}")


def check_disk_latency(context: HostContext) -> Iterator[Finding]:
    taken = context.facts.fdatasync_seconds
    path = context.cluster.paths.wal or context.cluster.paths.data
    if not taken and context.facts.unit.active == "active":
        return  # a member that runs is not disturbed
    if not taken:
        yield context.warning("fdatasync", f"the disk of {path} could not be measured", "check that it is writable")
        return
    middle, slowest = taken[len(taken) // 2], taken[-1]
    text = f"fdatasync takes {middle * 1000:.1f} ms, at most {slowest * 1000:.1f} ms"
    if middle > SYNC_SECONDS_SLOW:
        slow = f"{text}: the recommended maximum is {SYNC_SECONDS_SLOW * 1000:.0f} ms"
        yield context.warning("fdatasync", slow, "put paths.data, or at least paths.wal, on an SSD")
    else:
        yield context.ok("fdatasync", text)


def check_peers(context: HostContext) -> Iterator[Finding]:
    """A refused connection counts as reachable: the peer is not running yet."""
    port = context.cluster.listen.peer_port
    others = [other for other in context.cluster.hosts if other != context.spec]
    unreachable = 0
    for other in others:
        problem = context.facts.reached.get(f"{other.address}:{port}", "not tried")
        if problem:
            unreachable += 1
            text = f"cannot reach {other.name} on {host_port(other.address, port)}: {problem}"
            remedy = f"allow port {port} from {context.spec.name} in the firewall of {other.name}"
            yield context.error("peers", text, remedy, "first start")
    if not unreachable:
        yield context.ok("peers", f"other hosts reachable on port {port}" if others else "single member")


def check_local_clock(offsets: Sequence[float], error: float) -> Finding | None:
    """An error for a local clock that differs from all hosts, which agree with each other. offsets: hosts minus local clock."""
    if len(offsets) < 2 or max(offsets) - min(offsets) > HOSTS_APART_SECONDS + 2 * error:
        return None
    nearest = min(map(abs, offsets))
    if nearest - error <= FROM_HERE_SECONDS:
        return None
    text = f"the clock of this machine is {_apart(-median(offsets))} all hosts: new certificates may not be valid there"
    return Finding("local", "clock", "error", text, "enable time synchronisation: timedatectl set-ntp true", "certificates")


CHECKS: tuple[Check, ...] = (
    check_login,
    check_system,
    check_systemd,
    check_python,
    check_clock,
    check_address,
    check_ports,
    check_user,
    check_directories,
    check_disk,
    check_disk_latency,
    check_peers,
)


def _apart(seconds: float) -> str:
    return f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'}"


def _bytes(count: int) -> str:
    if count >= 10 << 30:
        return f"{count >> 30} GiB"
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"
