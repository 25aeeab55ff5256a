"""The network between members of one process, with faults: what one member sends to another is cut, delayed or dropped.

    links = Links({"m0": "127.0.0.1:40001", "m1": "127.0.0.1:40003"})
    links.set("m0", "m1", Link(cut=True))              # m0's messages do not arrive at m1; m1's still arrive at m0

Raft's messages are lost on the sender's side, without an error, as in a network. Requests between members (forwarded lease
renewals, probes, dialled streams) need both directions and fail to connect. Any thread may change the links.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from tercet.peer import PeerStatus, Receptions
from tercet.raft.types import Message
from tercet.server.replica_driver import Peers


@dataclass(frozen=True, slots=True)
class Link:
    """One direction between two members. drop: the probability with which a message is lost."""

    cut: bool = False
    delay_seconds: float = 0.0
    drop: float = 0.0


GOOD: Final = Link()


class Links:
    """All directions of a cluster. authorities: `host:port` for peers, by member name."""

    def __init__(self, authorities: Mapping[str, str], random: Random | None = None) -> None:
        self.random = random or Random()
        self._names = {authority: name for name, authority in authorities.items()}
        self._links: dict[tuple[str, str], Link] = {}

    def set(self, sender: str, receiver: str, link: Link) -> None:
        self._links[sender, receiver] = link

    def get(self, sender: str, receiver: str) -> Link:
        return self._links.get((sender, receiver), GOOD)

    def heal(self) -> None:
        """All directions are good again."""
        self._links.clear()

    @property
    def faults(self) -> dict[tuple[str, str], Link]:
        """The directions that have been set."""
        return dict(self._links)

    def restore(self, faults: Mapping[tuple[str, str], Link]) -> None:
        """Set exactly these."""
        self._links = dict(faults)

    def reaches(self, name: str, authority: str) -> bool:
        """Whether a member can exchange requests with the one at this authority."""
        other = self._names.get(authority, authority)
        return not (self.get(name, other).cut or self.get(other, name).cut)


class FaultyPeers:
    """Sends a member's messages by its transport, as the links allow. See `replica_driver.Peers`."""

    def __init__(self, name: str, names: Mapping[int, str], links: Links, transport: Peers) -> None:
        """names: of the members, by id."""
        self._name = name
        self._names = names
        self._links = links
        self._transport = transport

    @property
    def peers(self) -> list[int]:
        return self._transport.peers

    def peer(self, id: int) -> object | None:
        return self._transport.peer(id)

    def status(self, id: int) -> PeerStatus | None:
        return self._transport.status(id)

    def active_since(self, id: int) -> float | None:
        other = self._names.get(id, "")
        is_cut = self._links.get(self._name, other).cut or self._links.get(other, self._name).cut
        return None if is_cut else self._transport.active_since(id)

    def receptions(self) -> Mapping[int, Receptions]:
        return self._transport.receptions()

    def add_peer(self, id: int, urls: Sequence[str]) -> None:
        self._transport.add_peer(id, urls)

    def update_peer(self, id: int, urls: Sequence[str]) -> None:
        self._transport.update_peer(id, urls)

    def remove_peer(self, id: int) -> None:
        self._transport.remove_peer(id)

    def send(self, messages: Sequence[Message]) -> None:
        now: list[Message] = []
        for message in messages:
            link = self._link(message)
            if link is GOOD:
                now.append(message)
            elif link.cut or self._links.random.random() < link.drop:
                continue
            elif link.delay_seconds:
                asyncio.get_running_loop().call_later(link.delay_seconds, self._transport.send, [message])
            else:
                now.append(message)
        if now:
            self._transport.send(now)

    def send_snapshot(self, message: Message, database: AsyncIterator[bytes]) -> None:
        """A database goes by a request, which `Links.reaches` fails."""
        self._transport.send_snapshot(message, database)

    def _link(self, message: Message) -> Link:
        return self._links.get(self._name, self._names.get(message.to, ""))
