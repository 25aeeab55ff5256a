"""What will `tercet up` run? The members, ports and certificates of a local cluster, and the record of them in its directory.

    DIR/cluster.json                what was chosen at the first start, so that later starts need no flags
    DIR/certs/                      see pki/cluster.py
    DIR/NAME/data, DIR/NAME/member.log
A directory keeps its shape: whoever asks for another one on top of existing data is told so, instead of getting members that
refuse each other.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tercet.bench.local_cluster import Member, Plan
from tercet.errors import ConfigError
from tercet.pki import ensure_certificates

RECORD = "cluster.json"
HABITUAL_PORT = 2379
_PORT_MAX = 65535


@dataclass(frozen=True)
class Wish:
    """What the flags say; None where they say nothing."""

    members: int | None = None
    base_port: int | None = None
    client_ports: Sequence[int] = ()
    peer_ports: Sequence[int] = ()
    tls: bool | None = None


@dataclass(frozen=True)
class Shape:
    """What cannot change while there is data: ports in the order of the members, TLS, and the cluster's token."""

    client_ports: tuple[int, ...]
    peer_ports: tuple[int, ...]
    tls: bool
    token: str

    @property
    def names(self) -> list[str]:
        return [f"n{number + 1}" for number in range(len(self.client_ports))]


def settle(directory: Path, wish: Wish) -> Shape:
    """The recorded shape of `directory`, or a new one by the wish, recorded. Raises ConfigError, OSError."""
    recorded = _read(directory / RECORD)
    if recorded is not None:
        _refuse_other(directory, recorded, wish)
        return recorded
    shape = _new_shape(wish)
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f".{RECORD}"
    temporary.write_text(json.dumps(asdict(shape), indent=2) + "\n", encoding="utf-8")
    temporary.replace(directory / RECORD)
    return shape


def make_plan(directory: Path, shape: Shape) -> Plan:
    """The plan of this shape; makes or renews its certificates. Raises ConfigError, OSError."""
    members = tuple(
        Member(name, client, peer, directory / name / "data", directory / name / "member.log")
        for name, client, peer in zip(shape.names, shape.client_ports, shape.peer_ports, strict=True)
    )
    certificates = ensure_certificates(directory / "certs", shape.names) if shape.tls else None
    return Plan(members, shape.token, certificates)


def habitual_ports(members: int) -> list[int]:
    """2379, 22379, 32379, ...: the client ports that etcd's own examples use on one host."""
    return [HABITUAL_PORT + (10_000 * (number + 1) if number else 0) for number in range(members)]


def _new_shape(wish: Wish) -> Shape:
    members = wish.members or len(wish.client_ports) or 3
    if wish.base_port is not None:
        clients = [wish.base_port + 10 * number for number in range(members)]
    else:
        clients = habitual_ports(members)
    clients = list(wish.client_ports) or clients
    peers = list(wish.peer_ports) or [port + 1 for port in clients]
    for flag, ports in (("--client-port", clients), ("--peer-port", peers)):
        if len(ports) != members:
            raise ConfigError(f"{members} members need {members} ports; {flag} gives {len(ports)}")
    both = clients + peers
    if max(both) > _PORT_MAX:
        raise ConfigError(f"port {max(both)} is above {_PORT_MAX}; choose lower ones with --base-port or --client-port")
    if len(set(both)) != len(both):
        raise ConfigError(f"the same port twice: clients {_listed(clients)}, peers {_listed(peers)}")
    return Shape(tuple(clients), tuple(peers), wish.tls is not False, f"tercet-{secrets.token_hex(4)}")


def _refuse_other(directory: Path, shape: Shape, wish: Wish) -> None:
    """Say what the directory holds, if it is not what was asked for."""
    asked = {
        "--members": (wish.members, len(shape.client_ports)),
        "--base-port": (wish.base_port, shape.client_ports[0]),
        "--client-port": (list(wish.client_ports) or None, list(shape.client_ports)),
        "--peer-port": (list(wish.peer_ports) or None, list(shape.peer_ports)),
        "--tls/--no-tls": (wish.tls, shape.tls),
    }
    for flag, (wanted, held) in asked.items():
        if wanted is not None and wanted != held:
            kind = "with TLS" if shape.tls else "without TLS"
            raise ConfigError(
                f"{directory} holds a cluster of {len(shape.client_ports)} {kind} on ports {_listed(shape.client_ports)}; "
                f"start it without {flag}, or choose another --data-dir"
            )


def _read(path: Path) -> Shape | None:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"cannot read {path}: not the record of a cluster")
    try:
        shape = Shape(
            tuple(int(port) for port in content["client_ports"]),
            tuple(int(port) for port in content["peer_ports"]),
            bool(content["tls"]),
            str(content["token"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error!r}") from error
    if not shape.client_ports or len(shape.client_ports) != len(shape.peer_ports):
        raise ConfigError(f"cannot read {path}: it needs as many peer_ports as client_ports")
    return shape


def _listed(ports: Sequence[int]) -> str:
    return ", ".join(map(str, ports))
