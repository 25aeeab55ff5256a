"""Members that a recovery or a restore left behind, on hosts that could not be reached or have not joined again.

They have the data and the votes of the cluster before. Where they reach a member of the recovered cluster, it refuses them and
they end. Where they do not, a majority of the cluster before elects a leader and acknowledges writes that the recovered cluster
never sees. Nothing that runs elsewhere can prevent that, so:

- the record names them from before the first start of the recovered cluster, until each has joined again without its data
- no command takes a member in the record for one of the cluster (`Members.member`)
- each command that changes the cluster first stops and disables those that it reaches (`run.fencing`)
- `status` shows them, whether their host is reached or not

The record is a file beside the cluster file, CLUSTER.left-behind.json: it is needed most when no recovered member is reached.
A host that has joined again has the file DATA/rejoined-ID, so that an outdated copy of the record does not stop its member.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.ssh.host_error import HostError
from tercet.errors import ConfigError
from tercet.pki.files import CERTIFICATE_MODE, write


@dataclass(frozen=True)
class LeftMember:
    """peer_url: where the cluster before knew it. change: "recovery" or "restore", and its id, a UTC time."""

    name: str
    peer_url: str
    change: str
    id: str

    @property
    def text(self) -> str:
        return f"left behind by the {self.change} of {self.id}: its data is that of the cluster before"


class LeftBehind:
    """The record. Every change is written at once."""

    def __init__(self, cluster: Cluster, entries: Iterable[LeftMember] = ()) -> None:
        self._cluster = cluster
        self._entries = {(one.name, one.peer_url): one for one in entries}

    @classmethod
    def read(cls, cluster: Cluster) -> LeftBehind:
        """Empty if there is no file. Raises ConfigError for an unreadable one."""
        path = _path(cluster)
        try:
            entries = [LeftMember(**entry) for entry in json.loads(path.read_text())["members"]]
        except FileNotFoundError:
            return cls(cluster)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: unreadable record of members that were left behind: {error}") from error
        return cls(cluster, entries)

    def __iter__(self) -> Iterator[LeftMember]:
        return iter(self._entries.values())

    @property
    def path(self) -> Path:
        return _path(self._cluster)

    def of(self, name: str) -> LeftMember | None:
        """The entry of this host of the cluster file; an earlier host of this name has another address."""
        spec = next((spec for spec in self._cluster.hosts if spec.name == name), None)
        return None if spec is None else self._entries.get((name, self._cluster.peer_url(spec)))

    def refusal(self, name: str, step: str) -> HostError | None:
        """Why this host's member is neither started nor asked; None if it was not left behind."""
        if (entry := self.of(name)) is None:
            return None
        remedy = f"`tercet deploy recover` or `tercet deploy member add {name}` joins it to the cluster, without that data"
        return HostError(name, step, entry.text, remedy=remedy)

    def add(self, specs: Iterable[HostSpec], change: str, id: str) -> None:
        """Raises ConfigError if the record cannot be written."""
        for spec in specs:
            url = self._cluster.peer_url(spec)
            self._entries[spec.name, url] = LeftMember(spec.name, url, change, id)
        self._write()

    def discard(self, name: str) -> None:
        """Of a host that has joined, or whose data is gone. Raises ConfigError if the record cannot be written."""
        if (entry := self.of(name)) is not None:
            del self._entries[name, entry.peer_url]
            self._write()

    def rejoined_path(self, entry: LeftMember) -> str:
        return f"{self._cluster.paths.data}/rejoined-{entry.id}"

    def _write(self) -> None:
        try:
            if self._entries:
                text = json.dumps({"members": [asdict(one) for one in self]}, indent=2)
                write(self.path, f"{text}\n".encode(), mode=CERTIFICATE_MODE)
            else:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror or error}") from error


def _path(cluster: Cluster) -> Path:
    return cluster.path.with_name(f"{cluster.path.stem}.left-behind.json")
