"""Observations of hosts: files, services, certificates, and command lines of processes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509

from tests.hosts.network import HOSTS
from tests.hosts.session import Operator

# Changed by the running system and by logins.
_RESTLESS = (
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "var/log",
    "var/tmp",
    "var/lib/systemd",
    "var/cache",
    "home/ops/.sudo_as_admin_successful",
)


def files(operator: Operator, host: str, *, data: str = "/var/lib/etcd") -> dict[str, str]:
    """Mode, owner, size and time of every file of a host, except volatile files and the data of members."""
    pruned = " -o ".join(f"-path /{path}" for path in (*_RESTLESS, data.lstrip("/")))
    listing = operator.machine(host).inside(f"find / \\( {pruned} \\) -prune -o ! -type d -printf '%p|%m %u %g %s %T@ %l\\n'")
    return dict(line.split("|", 1) for line in listing.stdout.splitlines())


def down_times(operator: Operator, unit: str = "etcd") -> list[tuple[str, int, int]]:
    """(host, down, up) of each host's last restart, in order; microseconds of the shared clock."""
    windows = []
    for host in HOSTS:
        shown = operator.unit(host, unit)
        windows.append((host, int(shown["ActiveExitTimestampMonotonic"]), int(shown["ActiveEnterTimestampMonotonic"])))
    return sorted(windows, key=lambda window: window[1])


def certificate_addresses(path: Path) -> set[str]:
    """The IP addresses in a certificate."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(address) for address in names.get_values_for_type(x509.IPAddress)}


def private_key_lines(directory: Path) -> set[str]:
    """Distinctive lines of every private key in a directory: any of them seen elsewhere is a leak."""
    lines: set[str] = set()
    for path in directory.rglob("*.pem"):
        text = path.read_text()
        if "PRIVATE KEY" in text:
            lines.update(line for line in text.splitlines()[1:-1] if len(line) == 64)
    return lines


@contextlib.contextmanager
def command_lines() -> Iterator[set[str]]:
    """Every command line seen on this machine and its hosts during the block."""
    seen: set[str] = set()
    stopping = threading.Event()

    def look() -> None:
        while not stopping.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        stopping.set()
        watcher.join(5)


def wait_until(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.3)
