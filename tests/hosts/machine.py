"""One host: an overlay over the image, booted by systemd-nspawn inside the host's network namespace.

Each host gets a control group of its own *before* it boots: systemd-nspawn without a unit leaves a container in the group of
whoever started it, and three systemds that share one tree would stop each other's services.

Invariant: only processes are ended that this lab started, by process id, checked to be what was started: the id is noted before
the host begins to boot, and the process must be the systemd-nspawn of this host's own disk.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.hosts.network import ALL_HOSTS, host_namespace, run

CGROUP_ROOT = Path("/sys/fs/cgroup")
PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    """A host named `name` of the lab `lab`, whose disk is under `directory`."""

    def __init__(self, lab: str, name: str, directory: Path, image: Path) -> None:
        self.lab = lab
        self.name = name
        self.address = ALL_HOSTS[name]
        self.directory = directory
        self.image = image
        self.root = directory / "root"
        self.console = directory / "console.log"
        self._note = directory / "supervisor.pid"

    # Disk.

    def mount(self, authorized_key: str) -> None:
        """Create a fresh overlay over the image, with the operator's key, the host name and host keys."""
        for part in ("upper", "work", "root"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        self.attach_disk()
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        (self.root / "etc/hosts").write_text(hosts_file())
        for home, owner in (("root", 0), ("home/ops", None), ("home/deployer", None)):
            keys = self.root / home / ".ssh"
            keys.mkdir(mode=0o700, exist_ok=True)
            (keys / "authorized_keys").write_text(authorized_key)
            uid = owner if owner is not None else (self.root / home).stat().st_uid
            for path in (keys, keys / "authorized_keys"):
                os.chown(path, uid, uid)
        run("ssh-keygen", "-A", "-f", str(self.root))

    def attach_disk(self) -> None:
        """Mount the existing disk, for example after a kill."""
        if not os.path.ismount(self.root):
            layers = f"lowerdir={self.image},upperdir={self.directory / 'upper'},workdir={self.directory / 'work'}"
            run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))

    def host_key(self) -> str:
        """A line for known_hosts."""
        kind, key = (self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
        return f"{self.name},{self.address} {kind} {key}\n"

    # Life.

    def boot(self) -> None:
        """Start systemd; returns at once (`Lab.wait_for_ssh`)."""
        groups = [group for group in self._control_groups() if group.parent.is_dir()]
        for group in groups:
            group.mkdir(exist_ok=True)
        join = "".join(f'echo $$ >"{group}/cgroup.procs"; ' for group in groups)
        script = f'echo $$ >"{self._note}"; {join}exec "$@"'
        nspawn = [
            "systemd-nspawn",
            "--boot",
            "--quiet",
            f"--directory={self.root}",
            f"--machine=tercet-{self.lab}-{self.name}",
            f"--network-namespace-path=/run/netns/{host_namespace(self.lab, self.name)}",
            "--register=no",
            "--keep-unit",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--console=pipe",
        ]
        with self.console.open("ab") as console:
            subprocess.Popen(
                ["sh", "-c", script, "sh", *nspawn],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 5
        while self.supervisor is None and time.monotonic() < deadline:
            time.sleep(0.005)

    @property
    def supervisor(self) -> int | None:
        """Process id of the systemd-nspawn that this lab started, if it still runs."""
        try:
            pid = int(self._note.read_text())
            return pid if f"--directory={self.root}" in Path(f"/proc/{pid}/cmdline").read_text().split("\0") else None
        except (OSError, ValueError):
            return None

    @property
    def leader(self) -> int | None:
        """Process id of the host's process 1, in the outer namespace."""
        if (supervisor := self.supervisor) is None:
            return None
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
                status = Path(f"/proc/{child}/status").read_text()
                if any(line.startswith("NSpid:") and line.split()[-1] == "1" for line in status.splitlines()):
                    return int(child)
        return None

    def kill(self) -> None:
        """Power failure: kill every process of the host at once. The disk keeps its state in the page cache."""
        supervisor, leader = self.supervisor, self.leader
        if leader is not None:  # the end of its process 1 is the end of a process namespace
            os.kill(leader, signal.SIGKILL)
        if supervisor is None:
            return
        deadline = time.monotonic() + 5
        while self.supervisor is not None and time.monotonic() < deadline:
            self._reap(supervisor)
            time.sleep(0.02)
        if self.supervisor is not None:
            os.kill(supervisor, signal.SIGKILL)
            self._reap(supervisor)

    def remove(self) -> None:
        """Stop the host and remove its processes, mount, control groups and disk."""
        self.kill()
        for _ in range(50):
            if not os.path.ismount(self.root):
                break
            if subprocess.run(["umount", str(self.root)], capture_output=True, check=False).returncode:
                time.sleep(0.1)  # the last processes of a killed host take a moment to exit
        for group in self._control_groups():
            if group.is_dir():
                for path in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
                    with contextlib.suppress(OSError):
                        path.rmdir()
                with contextlib.suppress(OSError):
                    group.rmdir()
        if os.path.ismount(self.root):
            raise RuntimeError(f"{self.root} is still in use")
        shutil.rmtree(self.directory, ignore_errors=True)

    # Access without ssh, to inject faults and inspect the host.

    def inside(self, command: str, *, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root on the host, without ssh."""
        if (leader := self.leader) is None:
            raise RuntimeError(f"{self.name} is not running")
        enter = ["nsenter", f"--target={leader}", "--all", "env", "-i", PATH, "sh", "-c", command]
        return subprocess.run(enter, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)

    def _control_groups(self) -> list[Path]:
        group = f"tercet-{self.lab}-{self.name}"
        version_2 = (CGROUP_ROOT / "cgroup.controllers").exists()
        parents = [CGROUP_ROOT] if version_2 else [CGROUP_ROOT / "systemd", CGROUP_ROOT / "unified"]
        return [parent / group for parent in parents]

    @staticmethod
    def _reap(pid: int) -> None:
        with contextlib.suppress(ChildProcessError):  # it may be the child of an earlier `up`
            os.waitpid(pid, os.WNOHANG)


def hosts_file() -> str:
    """The content of /etc/hosts, on every host and for the operator."""
    return "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in ALL_HOSTS.items())
