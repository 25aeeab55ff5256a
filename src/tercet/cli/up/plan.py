"""Members, ports and certificates of a local cluster, and the record of them in its directory.

    DIR/cluster.json                the choices of the first start; later starts need no flags
    DIR/certs/                      see pki/cluster.py
    DIR/NAME/data, DIR/NAME/member.log
Flags that contradict the record are refused: members with other ports or TLS settings would reject each other.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tercet.bench.local_cluster import Member, Plan
from tercet.disk_sync import naming
from tercet.errors import ConfigError
from tercet.pki import ensure_certificates

RECORD = "cluster.json"
FIRST_CLIENT_PORT = 2379
_PORT_MAX = 65535


@dataclass(frozen=True)
class Choice:
    """The flags; None for a flag that is not given."""

    members: int | None = None
    base_port: int | None = None
    client_ports: Sequence[int] = ()
    peer_ports: Sequence[int] = ()
    tls: bool | None = None


@dataclass(frozen=True)
class Shape:
    """What cannot change once there is data: ports in the order of the members, TLS, and the cluster token."""

    client_ports: tuple[int, ...]
    peer_ports: tuple[int, ...]
    tls: bool
    token: str

    @property
    def names(self) -> list[str]:
        return [f"n{number + 1}" for number in range(len(self.client_ports))]


def load_or_create_shape(directory: Path, choice: Choice) -> Shape:
    """The recorded shape of `directory`, or a new one, recorded. Raises ConfigError, OSError."""
    recorded = _read(directory / RECORD)
    if recorded is not None:
        _refuse_contradiction(directory, recorded, choice)
        return recorded
    shape = _new_shape(choice)
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f".{RECORD}"
    with naming(temporary):
        temporary.write_text(json.dumps(asdict(shape), indent=2) + "\n", encoding="utf-8")
    temporary.replace(directory / RECORD)
    return shape


def make_plan(directory: Path, shape: Shape) -> Plan:
    """The plan of this shape; creates or renews its certificates. Raises ConfigError, OSError."""
    members = tuple(
        Member(name, client, peer, directory / name / "data", directory / name / "member.log")
        for name, client, peer in zip(shape.names, shape.client_ports, shape.peer_ports, strict=True)
    )
    certificates = ensure_certificates(directory / "certs", shape.names) if shape.tls else None
    return Plan(members, shape.token, certificates)


def default_client_ports(members: int) -> list[int]:
    """2379, 22379, 32379, ...: the client ports of etcd's examples for one host."""
    return [FIRST_CLIENT_PORT + (10_000 * (number + 1) if number else 0) for number in range(members)]


def _new_shape(choice: Choice) -> Shape:
    members = choice.members or len(choice.client_ports) or 3
    if choice.base_port is not None:
        clients = [choice.base_port + 10 * number for number in range(members)]
    else:
        clients = default_client_ports(members)
    clients = list(choice.client_ports) or clients
    peers = list(choice.peer_ports) or [port + 1 for port in clients]
    for flag, ports in (("--client-port", clients), ("--peer-port", peers)):
        if len(ports) != members:
            raise ConfigError(f"{members} members need {members} ports, but {flag} gives {len(ports)}")
    both = clients + peers
    if max(both) > _PORT_MAX:
        raise ConfigError(f"port {max(both)} is above {_PORT_MAX}; choose lower ports with --base-port or --client-port")
    if len(set(both)) != len(both):
        raise ConfigError(f"duplicate port: clients {_join(clients)}, peers {_join(peers)}")
    return Shape(tuple(clients), tuple(peers), choice.tls is not False, f"tercet-{secrets.token_hex(4)}")


def _refuse_contradiction(directory: Path, shape: Shape, choice: Choice) -> None:
    """Raise ConfigError if a flag asks for another shape than the recorded one."""
    asked = {
        "--members": (choice.members, len(shape.client_ports)),
        "--base-port": (choice.base_port, shape.client_ports[0]),
        "--client-port": (list(choice.client_ports) or None, list(shape.client_ports)),
        "--peer-port": (list(choice.peer_ports) or None, list(shape.peer_ports)),
        "--tls/--no-tls": (choice.tls, shape.tls),
    }
    for flag, (wanted, held) in asked.items():
        if wanted is not None and wanted != held:
            kind = "with TLS" if shape.tls else "without TLS"
            raise ConfigError(
                f"{directory} already holds a cluster of {len(shape.client_ports)} members {kind} on ports "
                f"{_join(shape.client_ports)}; drop {flag}, or choose another --data-dir"
            )


def _read(path: Path) -> Shape | None:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"cannot read {path}: not a JSON object")
    try:
        shape = Shape(
            tuple(int(port) for port in content["client_ports"]),
            tuple(int(port) for port in content["peer_ports"]),
            bool(content["tls"]),
            str(content["token"]),
        )
    except KeyError as missing:
        raise ConfigError(f"cannot read {path}: {missing.args[0]} is missing") from missing
    except (TypeError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not shape.client_ports or len(shape.client_ports) != len(shape.peer_ports):
        raise ConfigError(f"cannot read {path}: client_ports and peer_ports differ in length")
    return shape


def _join(ports: Sequence[int]) -> str:
    return ", ".join(map(str, ports))
