"""Three hosts and an operator, by hand or from a test.

    python -m tests.hosts.lab up               # about a minute the first time, three seconds after that
    python -m tests.hosts.lab exec -- ssh kube-node1 hostname
    python -m tests.hosts.lab down

`exec` runs a command where the operator sits: in the namespace from which the hosts can be reached and nothing else can, with
~/.ssh and $HOME of the operator's own (a key that the hosts know, their host keys) and the hosts' names in /etc/hosts.
All state is in one directory (.hosts, or $HOSTS_STATE), which git ignores. Several labs may be up at once: `--name`.
"""

import argparse
import contextlib
import fcntl
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.hosts import image, network
from tests.hosts.image import LabUnavailable
from tests.hosts.machine import Machine, hosts_file
from tests.hosts.network import ALL_HOSTS, HOSTS

CHECKOUT = Path(__file__).resolve().parents[2]
_LOCKS = Path("/run/lock")
SSH_CONFIG = "Host kube-node*\n  User root\n"


def state_directory() -> Path:
    return Path(os.environ.get("HOSTS_STATE", CHECKOUT / ".hosts")).absolute()


class Lab:
    """A named lab; the constructor changes nothing."""

    def __init__(self, name: str = "lab", hosts: Iterable[str] = HOSTS) -> None:
        if not name.isalnum():
            raise ValueError(f"a lab's name is letters and digits: {name!r}")
        self.name = name
        self.state = state_directory()
        self.directory = self.state / "labs" / name
        self.home = self.directory / "operator"
        self.bytecode = self.state / "bytecode"
        disk = self.state / f"image-{image.recipe()}"
        self._possible = {host: Machine(name, host, self.directory / host, disk) for host in ALL_HOSTS}
        self.machines = {host: self._possible[host] for host in hosts}

    def up(self) -> None:
        """Boot fresh hosts, after removing an earlier lab of this name."""
        image.prepare_machine()
        with self._lock():
            self._remove()
            image.ensure_image(self.state)
            try:
                self._make_operator()
                network.create(self.name, self.machines)
                for machine in self.machines.values():
                    machine.mount((self.home / ".ssh/id_ed25519.pub").read_text())
                self.trust_hosts()
                for machine in self.machines.values():
                    machine.boot()
                self.wait_for_ssh(*self.machines)
            except (RuntimeError, OSError) as error:
                consoles = "".join(log.read_text() for log in sorted(self.directory.glob("*/console.log")))
                self._remove()
                raise LabUnavailable(f"hosts cannot be booted here: {error}\n{consoles[-2000:]}") from error

    def kill(self, host: str) -> None:
        """Power off a host without shutdown."""
        self.machines[host].kill()
        network.set_link(self.name, host, up=False)

    def boot(self, host: str) -> None:
        """Boot a killed host with its old disk and wait for sshd."""
        network.set_link(self.name, host, up=True)
        self.machines[host].attach_disk()
        self.machines[host].boot()
        self.wait_for_ssh(host)

    def down(self) -> None:
        """Remove everything of this lab except the image."""
        with self._lock():
            self._remove()

    def _remove(self) -> None:
        for machine in self._possible.values():  # an earlier lab of this name may have had more
            machine.remove()
        network.remove(self.name)
        shutil.rmtree(Path("/etc/netns", network.operator_namespace(self.name)), ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def is_up(self) -> bool:
        return all(machine.leader is not None for machine in self.machines.values())

    # The operator.

    def trust_hosts(self) -> None:
        """Write the hosts' keys into the operator's known_hosts."""
        (self.home / ".ssh/known_hosts").write_text("".join(machine.host_key() for machine in self.machines.values()))

    def command(self, *command: str) -> list[str]:
        """The command line that runs `command` in the operator's namespace."""
        home = pwd.getpwuid(os.geteuid()).pw_dir  # ssh asks the password file for it, not $HOME
        script = f'mount --bind "{self.home}/.ssh" "{home}/.ssh" && exec "$@"'
        Path(home, ".ssh").mkdir(mode=0o700, exist_ok=True)
        return [
            *("ip", "netns", "exec", network.operator_namespace(self.name)),
            *("unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"),
            *("env", f"HOME={self.home}", "SSH_AUTH_SOCK=", *command),
        ]

    def _make_operator(self) -> None:
        keys = self.home / ".ssh"
        keys.mkdir(parents=True, mode=0o700)
        network.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", str(keys / "id_ed25519"))
        (keys / "config").write_text(SSH_CONFIG)
        overlay = Path("/etc/netns", network.operator_namespace(self.name))  # `ip netns exec` binds these over /etc
        overlay.mkdir(parents=True, exist_ok=True)
        (overlay / "hosts").write_text(hosts_file())

    # Time.

    def wait_for_ssh(self, *hosts: str, seconds: float = 120) -> None:
        """Wait until sshd answers on these hosts. Raises RuntimeError."""
        deadline = time.monotonic() + seconds
        for host in hosts:
            while not self._greets(host):
                if self.machines[host].supervisor is None:
                    raise RuntimeError(f"{host} stopped while booting")
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{host}: no ssh after {seconds:.0f} s{self._crowded()}")
                time.sleep(0.05)

    @staticmethod
    def _crowded() -> str:
        """Each host's systemd watches files with some seven inotify instances, of which the kernel by default gives 128."""
        instances = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
        return f" (fs.inotify.max_user_instances is {instances}: too few for six labs at once)" if instances < 256 else ""

    def _greets(self, host: str) -> bool:
        greet = f"import socket; print(socket.create_connection(({ALL_HOSTS[host]!r}, 22), 2).recv(4))"
        inside = ["ip", "netns", "exec", network.operator_namespace(self.name), sys.executable, "-S", "-E", "-c", greet]
        return b"SSH" in subprocess.run(inside, capture_output=True, timeout=60, check=False).stdout

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def borrowed(stem: str, hosts: Iterable[str] = HOSTS) -> Iterator[Lab]:
    """A lab that is nobody else's for as long as this block runs: the first of stem1, stem2, ... that is free on this machine.

    What a crashed run left in a lab is removed by the next one that borrows it.
    """
    image.prepare_machine()
    for number in range(1, 10):
        with (_LOCKS / f"tercet-{stem}{number}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            lab = Lab(f"{stem}{number}", hosts)
            try:
                lab.up()
                yield lab
            finally:
                lab.down()
            return
    raise LabUnavailable(f"all labs {stem}1 to {stem}9 are in use")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts.lab", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--name", default="lab", help="which lab (default: lab)")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("up", help="boot three fresh hosts, removing an earlier lab of this name")
    actions.add_parser("down", help="remove hosts, namespaces and disks; the image is kept")
    actions.add_parser("status", help="which hosts run")
    execute = actions.add_parser("exec", help="run a command in the operator's place")
    execute.add_argument("command", nargs="+")
    for action, text in (("kill", "cut a host's power"), ("boot", "boot a killed host, its disk as it was")):
        actions.add_parser(action, help=text).add_argument("host", choices=list(HOSTS))
    given = parser.parse_args(arguments)
    lab = Lab(given.name)
    if given.action in ("exec", "boot", "kill") and not lab.directory.exists():
        print(f"lab {lab.name} is not up: python -m tests.hosts.lab up", file=sys.stderr)
        return 1
    try:
        return act(lab, given)
    except (LabUnavailable, RuntimeError) as error:
        print(f"lab {lab.name}: {error}", file=sys.stderr)
        return 1


def act(lab: Lab, given: argparse.Namespace) -> int:
    match given.action:
        case "up":
            lab.up()
            print(f"lab {lab.name}: {', '.join(f'{host} {address}' for host, address in HOSTS.items())}")
        case "down":
            lab.down()
        case "status":
            for host, machine in lab.machines.items():
                print(f"{host} {machine.address} {'running, pid ' + str(machine.leader) if machine.leader else 'down'}")
            return 0 if lab.is_up else 1
        case "kill":
            lab.kill(given.host)
        case "boot":
            lab.boot(given.host)
        case "exec":
            command = lab.command(*given.command)
            os.execvp(command[0], command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
