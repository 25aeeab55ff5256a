"""The base image of the hosts: a minimal Debian with systemd, sshd, Python and sudo, built once and cached.

The image is never booted and never changed: each host writes to an overlay over it (`machine.py`). Its directory is named after
what went into it, so a changed recipe makes a new image. It is made as wells final name and renamed: half an image is
never used.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

SUITE = "bookworm"
PACKAGES = ("systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "sudo", "iproute2", "ca-certificates")
TOOLS = {  # a program that must be here -> Debian's package for it
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
SUDO_PASSWORD = "lab password"  # of the user `ops`: hosts are reachable from the operator's namespace only
USERS = {"ops": "asked for a password", "deployer": "not asked"}  # who may sudo on the hosts, and how

CUSTOMIZE = r"""
set -eu
useradd --create-home --shell /bin/bash --groups sudo ops
echo "ops:$SUDO_PASSWORD" | chpasswd
useradd --create-home --shell /bin/bash deployer
echo 'deployer ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/deployer
chmod 0440 /etc/sudoers.d/deployer
printf '%s\n' 'PermitRootLogin prohibit-password' 'PasswordAuthentication no' 'MaxStartups 200' 'MaxSessions 100' 'UseDNS no' \
    >/etc/ssh/sshd_config.d/lab.conf
for unit in systemd-networkd.service systemd-resolved.service systemd-timesyncd.service apt-daily.timer \
    apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer console-getty.service; do
    systemctl mask "$unit" >/dev/null 2>&1
done
mkdir -p /etc/systemd/journald.conf.d /var/log/journal
printf '[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\nSystemMaxUse=64M\n' >/etc/systemd/journald.conf.d/lab.conf
rm -rf /var/cache/apt/* /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /usr/share/info/* \
    /etc/ssh/ssh_host_* /etc/machine-id /var/lib/dbus/machine-id
: >/etc/machine-id
"""


class LabUnavailable(Exception):
    """The lab cannot run on this machine; the text has the reason and the remedy."""


def missing_tools() -> list[str]:
    """Debian packages whose programs are missing."""
    return sorted({package for program, package in TOOLS.items() if shutil.which(program) is None})


def prepare_machine() -> None:
    """Install the required packages with apt-get. Raises LabUnavailable."""
    if os.geteuid() != 0:
        raise LabUnavailable("hosts need root: network namespaces, overlay mounts, systemd-nspawn (`sudo make test-hosts`)")
    namespaces = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    if namespaces.returncode:  # asked before a minute is spent on the image
        raise LabUnavailable(f"this machine gives no namespaces for hosts: {namespaces.stderr.decode().strip()}")
    missing = missing_tools()
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise LabUnavailable(f"apt-get here to install {' '.join(missing)} with; install them by hand")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode and command[1] == "install":
            raise LabUnavailable(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")


def recipe() -> str:
    """A digest of the image's inputs."""
    return hashlib.sha256("\n".join((SUITE, *PACKAGES, CUSTOMIZE)).encode()).hexdigest()[:12]


def ensure_image(state: Path) -> Path:
    """The image's directory; built if missing (about a minute, 300 MB)."""
    image = state / f"image-{recipe()}"
    if image.is_dir():
        return image
    partial = state / f"{image.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    state.mkdir(parents=True, exist_ok=True)
    log = state / "image.log"
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(partial)]
    if mirror := os.environ.get("HOSTS_MIRROR"):
        command.append(mirror)
    with log.open("wb") as output:
        made = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=600, check=False)
        if made.returncode == 0:
            environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SUDO_PASSWORD": SUDO_PASSWORD}
            chroot = ["chroot", str(partial), "sh", "-c", CUSTOMIZE]
            made = subprocess.run(chroot, env=environment, stdout=output, stderr=subprocess.STDOUT, timeout=120, check=False)
    if made.returncode:
        last = log.read_text(errors="replace").strip().splitlines()[-5:]
        raise LabUnavailable("the hosts' image could not be made:\n  " + "\n  ".join(last) + f"\n  (all of it: {log})")
    partial.rename(image)
    return image
