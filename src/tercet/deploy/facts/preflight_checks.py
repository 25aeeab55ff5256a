"""What do a host's answers mean for a deployment? One pure function a check; nothing here waits for anything.

A check returns findings; "ok" ones too, so that one sees what was looked at. "error" is what would make the deployment fail or
leave it broken; "warning" is what will hurt later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.facts.facts import HostFacts

Level = Literal["error", "warning", "ok"]

PYTHON_NEEDED = (3, 11)
SYSTEMD_NEEDED = 232  # the first with all that the unit uses
ARCHITECTURES = {"tercet": ("x86_64", "aarch64"), "etcd": ("x86_64", "aarch64", "ppc64le", "s390x")}
HOSTS_APART_SECONDS = 1.0  # from here on etcd's members warn of each other's clocks
FROM_HERE_SECONDS = 60.0  # a certificate made here may not be valid there yet
DATA_BYTES_NEEDED = 256 << 20  # two write-ahead log segments of 64 MB, a small store, and air
INSTALL_BYTES_NEEDED = 128 << 20
SYNC_SECONDS_SLOW = 0.010  # what etcd's documentation asks of a disk


@dataclass(frozen=True)
class Finding:
    """What one check found on one host. remedy: what the operator can do; empty where the level is "ok"."""

    host: str
    check: str
    level: Level
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Question:
    """One host's answers, beside what is wanted of it. clock: the median of all hosts' clocks minus ours, in seconds."""

    cluster: Cluster
    spec: HostSpec
    facts: HostFacts
    clock: float

    def ok(self, check: str, text: str) -> Finding:
        return Finding(self.spec.name, check, "ok", text)

    def error(self, check: str, text: str, remedy: str) -> Finding:
        return Finding(self.spec.name, check, "error", text, remedy)

    def warning(self, check: str, text: str, remedy: str) -> Finding:
        return Finding(self.spec.name, check, "warning", text, remedy)

    @property
    def unit(self) -> str:
        return f"{self.cluster.service.unit}.service"


Check: TypeAlias = Callable[[Question], Iterator[Finding]]


def ports(cluster: Cluster) -> tuple[int, ...]:
    """Ports that a member listens on."""
    metrics = urlsplit(cluster.listen.metrics_url).port if cluster.listen.metrics_url else None
    return (cluster.listen.client_port, cluster.listen.peer_port, *([metrics] if metrics else []))


def check_login(question: Question) -> Iterator[Finding]:
    if question.facts.is_root:
        yield question.ok("ssh", f"connected, root on {question.facts.hostname}")
    else:
        yield question.error(
            "sudo", "commands do not run as root, even with sudo", "see the login's sudoers, or set ssh.user: root"
        )


def check_system(question: Question) -> Iterator[Finding]:
    facts, engine = question.facts, question.cluster.engine.kind
    if facts.arch not in ARCHITECTURES[engine]:
        known = ", ".join(ARCHITECTURES[engine])
        yield question.error("system", f"there is no {engine} for {facts.arch}", f"use a host with one of {known}")
    else:
        yield question.ok("system", f"{facts.os_name}, {facts.arch}")


def check_systemd(question: Question) -> Iterator[Finding]:
    version = question.facts.systemd
    if not version:
        yield question.error("systemd", "systemd does not run this host", "use a host that is booted with systemd")
    elif version < SYSTEMD_NEEDED:
        yield question.error("systemd", f"systemd {version} is too old", f"update it to {SYSTEMD_NEEDED} or newer")
    else:
        yield question.ok("systemd", f"systemd {version}")
    if question.facts.unit.load == "masked":
        yield question.error("systemd", f"{question.unit} is masked", f"systemctl unmask {question.unit}")


def check_python(question: Question) -> Iterator[Finding]:
    """Only tercet needs it; etcd's members do without."""
    if question.cluster.engine.kind != "tercet":
        return
    python = question.cluster.engine.python or "python3"
    needed = ".".join(map(str, PYTHON_NEEDED))
    remedy = f"install Python {needed} or newer and set engine.python to its path"
    if question.facts.python is None:
        yield question.error("python", f"there is no {python}", remedy)
    elif question.facts.python < PYTHON_NEEDED:
        found = ".".join(map(str, question.facts.python))
        yield question.error("python", f"{python} is Python {found}, tercet needs {needed}", remedy)
    else:
        yield question.ok("python", "Python " + ".".join(map(str, question.facts.python)))


def check_clock(question: Question) -> Iterator[Finding]:
    """Members should agree with each other; the operator's own clock matters only for certificates made with it."""
    error = question.facts.clock_error_seconds
    from_here = question.facts.clock_offset_seconds
    from_hosts = from_here - question.clock
    remedy = "let chrony or systemd-timesyncd run there: timedatectl set-ntp true"
    if abs(from_here) - error > FROM_HERE_SECONDS:
        text = f"its clock is {_apart(from_here)} this machine's: certificates made here may not be valid there"
        yield question.error("clock", text, remedy)
    elif abs(from_hosts) - error > HOSTS_APART_SECONDS:
        yield question.warning("clock", f"its clock is {_apart(from_hosts)} the other hosts'", remedy)
    else:
        yield question.ok("clock", f"within {max(abs(from_hosts), error):.2f} s of the others")


def check_address(question: Question) -> Iterator[Finding]:
    address = question.spec.address
    if address not in question.facts.addresses:
        yield question.error(
            "address",
            f"{address} is not an address of this host: the member could not listen on it",
            "give the address that the host itself has, and ssh.host where it is reached by another",
        )
    else:
        yield question.ok("address", f"{address} is this host's")


def check_ports(question: Question) -> Iterator[Finding]:
    ours = f"unit {question.unit}"
    wanted = ports(question.cluster)
    taken = {port: who for port in wanted if (who := question.facts.listeners.get(port, ours)) != ours}
    for port, who in taken.items():
        name = who.removeprefix("unit ")
        stop = f"systemctl disable --now {name}" if who.startswith("unit ") else f"stop it (ss -ltnp sport = :{port})"
        yield question.error("ports", f"port {port} is taken by {name}", f"{stop}, or choose another port under listen")
    if not taken:
        state = "ours" if question.facts.listeners else "free"
        yield question.ok("ports", f"{', '.join(map(str, wanted))} {state}")


def check_user(question: Question) -> Iterator[Finding]:
    service = question.cluster.service
    missing = [f"user {service.user}"] * (service.user not in question.facts.users)
    missing += [f"group {service.group}"] * (service.group not in question.facts.groups)
    if not missing:
        yield question.ok("user", f"{service.user}:{service.group}")
    elif service.create_user:
        yield question.ok("user", f"{' and '.join(missing)} will be made")
    else:
        yield question.error(
            "user",
            f"there is no {' and no '.join(missing)}",
            "make it, or set service.create_user: true, or another service.user",
        )


def check_directories(question: Question) -> Iterator[Finding]:
    """What stands in their place; that a directory is missing is no fault, it will be made."""
    paths, files = question.cluster.paths, question.facts.files
    directories = [paths.install, paths.certificates, paths.backups, paths.data, *([paths.wal] if paths.wal else [])]
    wrong = [path for path in [*directories, *([paths.bin] if paths.bin else [])] if files[path].kind == "file"]
    for path in wrong:
        yield question.error(
            "directories", f"{path} is a file, not a directory", "move it away, or set another path under paths"
        )
    used = [*_used_by_others(question)]
    yield from used
    if not wrong and not used:
        there = sum(files[path].exists for path in directories)
        yield question.ok("directories", "nothing in the way" if there else "will be made")


def _used_by_others(question: Question) -> Iterator[Finding]:
    paths, service = question.cluster.paths, question.cluster.service
    for path in [paths.data, *([paths.wal] if paths.wal else [])]:
        fact = question.facts.files[path]
        if fact.kind != "directory" or not fact.size:
            continue
        if fact.owner != service.user:
            yield question.error(
                "directories",
                f"{path} belongs to {fact.owner} and is not empty: a member that runs as {service.user} could not use it",
                f"chown -R {service.user}: {path} if that data is this cluster's, or set service.user: {fact.owner}",
            )
        elif question.facts.unit.load == "not-found":
            yield question.warning(
                "directories",
                f"{path} has data from before, and no {question.unit}: the member will go on with it",
                "move it away if this is to be a new cluster",
            )


def check_disk(question: Question) -> Iterator[Finding]:
    paths, free = question.cluster.paths, question.facts.disk_free
    data = paths.data
    needed = {data: DATA_BYTES_NEEDED, paths.install: INSTALL_BYTES_NEEDED}
    short = {path: least for path, least in needed.items() if free[path] < least}
    for path, least in short.items():
        text = f"{_bytes(free[path])} free for {path}, at least {_bytes(least)} are needed"
        yield question.error("disk", text, "make room, or set another path under paths")
    if data not in short and free[data] < question.cluster.quota_backend_bytes:
        quota = question.cluster.quota_backend_bytes
        text = f"{_bytes(free[data])} free for {data}, while the store may grow to {_bytes(quota)}"
        yield question.warning("disk", text, "a larger disk, or a smaller quota_backend_bytes")
    elif not short:
        yield question.ok("disk", f"{_bytes(free[data])} free for {data}")


def check_disk_latency(question: Question) -> Iterator[Finding]:
    taken = question.facts.fdatasync_seconds
    path = question.cluster.paths.wal or question.cluster.paths.data
    if not taken:
        yield question.warning("fdatasync", f"the disk of {path} could not be measured", "see whether it can be written to")
        return
    middle, slowest = taken[len(taken) // 2], taken[-1]
    text = f"fdatasync takes {middle * 1000:.1f} ms, at most {slowest * 1000:.1f} ms"
    if middle > SYNC_SECONDS_SLOW:
        slow = f"{text}: more than the {SYNC_SECONDS_SLOW * 1000:.0f} ms that a member needs to keep up"
        yield question.warning("fdatasync", slow, "put paths.data, or at least paths.wal, on an SSD")
    else:
        yield question.ok("fdatasync", text)


def check_peers(question: Question) -> Iterator[Finding]:
    """A refused connection counts as reached: nobody listens there yet."""
    port = question.cluster.listen.peer_port
    others = [other for other in question.cluster.hosts if other != question.spec]
    cut_off = 0
    for other in others:
        problem = question.facts.reached.get(f"{other.address}:{port}", "not tried")
        if problem:
            cut_off += 1
            text = f"cannot reach {other.name} on {other.address}:{port}: {problem}"
            yield question.error("peers", text, f"let {question.spec.name} through to port {port} in {other.name}'s firewall")
    if not cut_off:
        yield question.ok("peers", f"reaches the others on port {port}" if others else "there are no others")


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
