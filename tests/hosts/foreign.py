"""Clusters of etcd that were not deployed by `tercet deploy`: made by hand as a tutorial does, or by kubespray.

layout = MANUAL                     # or KUBESPRAY
layout.install(operator)            # three members serve
layout.imports                      # what `tercet deploy init` is given
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tercet.pki import init_ca, issue, load_ca
from tercet.pki.issue import Request
from tercet.pki.usages import CLIENT, SERVER
from tests.hosts.network import HOSTS
from tests.hosts.observations import wait_until
from tests.hosts.session import JUDGES, Operator

TOKEN = "etcd-cluster-0"
_UNIT = """\
[Unit]
Description=Etcd Server
After=network-online.target

[Service]
Type=notify
User={user}
{environment}WorkingDirectory=/var/lib/etcd
ExecStart={command}
Restart=on-failure
RestartSec=5
LimitNOFILE=40000

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Layout:
    """bin, ca, certificate, key: paths on the hosts, with {host}. prefix: of the members' names; "" for the hosts'."""

    name: str
    bin: str
    ca: str
    certificate: str
    key: str
    user: str
    has_environment_file: bool = False
    prefix: str = ""

    @property
    def imports(self) -> tuple[str, ...]:
        return ("etcd.env", "etcd.service") if self.has_environment_file else ("etcd.service",)

    def members(self) -> dict[str, str]:
        """Member's name of each host."""
        return {host: f"{self.prefix}{number}" if self.prefix else host for number, host in enumerate(HOSTS, start=1)}

    def install(self, operator: Operator) -> None:
        """Install and start the members; in the operator's directory are the CA and the files to import."""
        _make_authority(operator.directory)
        for host in HOSTS:
            self._install_on(operator, host)
        for host in HOSTS:
            operator.on(host, "systemctl daemon-reload; systemctl enable --now --no-block etcd")
        wait_until(lambda: all(operator.unit(host)["ActiveState"] == "active" for host in HOSTS), seconds=120)

    def _install_on(self, operator: Operator, host: str) -> None:
        root = operator.machine(host).root
        if self.user != "root":
            operator.on(host, f"useradd --system --home-dir /var/lib/etcd --no-create-home {self.user}")
        for program in ("etcd", "etcdctl"):
            target = _below(root, f"{self.bin}/{program}")
            shutil.copy(JUDGES / program, target)
        certificate, key = _signed(operator.directory, host)
        files = {
            self.ca: (operator.directory / "ca.pem").read_bytes(),
            self.certificate.format(host=host): certificate,
            self.key.format(host=host): key,
            "/etc/systemd/system/etcd.service": self._unit(host).encode(),
        }
        if self.has_environment_file:
            files["/etc/etcd.env"] = self._environment(host).encode()
        for path, content in files.items():
            _below(root, path).write_bytes(content)
        key_path, data = self.key.format(host=host), "/var/lib/etcd"
        operator.on(host, f"chown {self.user}: {key_path}; chmod 600 {key_path}; install -d -m 700 -o {self.user} {data}")
        if host == next(iter(HOSTS)):
            operator.write("etcd.service", self._unit(host))
            if self.has_environment_file:
                operator.write("etcd.env", self._environment(host))

    def _flags(self, host: str) -> dict[str, str]:
        address, members = HOSTS[host], self.members()
        certificate, key = self.certificate.format(host=host), self.key.format(host=host)
        return {
            "name": members[host],
            "data-dir": "/var/lib/etcd",
            "cert-file": certificate,
            "key-file": key,
            "trusted-ca-file": self.ca,
            "client-cert-auth": "true",
            "peer-cert-file": certificate,
            "peer-key-file": key,
            "peer-trusted-ca-file": self.ca,
            "peer-client-cert-auth": "true",
            "listen-peer-urls": f"https://{address}:2380",
            "initial-advertise-peer-urls": f"https://{address}:2380",
            "listen-client-urls": f"https://{address}:2379,https://127.0.0.1:2379",
            "advertise-client-urls": f"https://{address}:2379",
            "initial-cluster": ",".join(f"{members[one]}=https://{HOSTS[one]}:2380" for one in HOSTS),
            "initial-cluster-token": TOKEN,
            "initial-cluster-state": "new",
            "heartbeat-interval": "250",
            "election-timeout": "5000",
        }

    def _unit(self, host: str) -> str:
        program = f"{self.bin}/etcd"
        if self.has_environment_file:
            return _UNIT.format(user=self.user, environment="EnvironmentFile=/etc/etcd.env\n", command=program)
        flags = "".join(f" \\\n  --{name}={value}" for name, value in self._flags(host).items())
        return _UNIT.format(user=self.user, environment="", command=program + flags)

    def _environment(self, host: str) -> str:
        return "".join(f"ETCD_{name.upper().replace('-', '_')}={value}\n" for name, value in self._flags(host).items())


MANUAL = Layout(
    "by hand",
    bin="/opt/k8s/bin",
    ca="/etc/kubernetes/cert/ca.pem",
    certificate="/etc/etcd/cert/etcd.pem",
    key="/etc/etcd/cert/etcd-key.pem",
    user="k8s",
)
KUBESPRAY = Layout(
    "kubespray",
    bin="/usr/local/bin",
    ca="/etc/ssl/etcd/ssl/ca.pem",
    certificate="/etc/ssl/etcd/ssl/member-{host}.pem",
    key="/etc/ssl/etcd/ssl/member-{host}-key.pem",
    user="etcd",
    has_environment_file=True,
    prefix="etcd",
)


def _make_authority(directory: Path) -> None:
    issued = init_ca(Request("etcd-ca"), timedelta(days=365), path_length=0)
    (directory / "ca.pem").write_bytes(issued.certificate)
    (directory / "ca-key.pem").write_bytes(issued.key)
    (directory / "ca-key.pem").chmod(0o600)


def _signed(directory: Path, host: str) -> tuple[bytes, bytes]:
    """A certificate for both roles, with other names than `tercet deploy` gives."""
    request = Request("etcd", ("127.0.0.1", HOSTS[host]))
    authority = load_ca(directory / "ca.pem", directory / "ca-key.pem")
    made = issue(authority, request, usages=(SERVER, CLIENT), days=300)
    return made.certificate, made.key


def _below(root: Path, path: str) -> Path:
    """The path on the host, its directory made."""
    found = root / path.lstrip("/")
    found.parent.mkdir(parents=True, exist_ok=True)
    os.chmod(found.parent, 0o755)
    return found
