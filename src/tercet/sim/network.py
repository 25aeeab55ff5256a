"""Links between members: they lose, delay, duplicate and reorder messages, and can be cut in one direction or both.

A message is encoded when it is sent and decoded when it arrives, by production's codecs, so members share no memory. There are
two kinds of network, and a run has one of them:
    datagrams   worse than TCP on purpose, since raft must not need order: each message is lost, delayed or duplicated
    streams     as in production (stream.py): in order, and a loss breaks the connection
A forwarded proposal arrives at most once in both: a second copy would be indistinguishable from another request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from tercet.raft.codec import decode_message, encode_message
from tercet.raft.types import Message, MessageType
from tercet.sim.clock import MICROSECONDS, MILLISECOND, Clock
from tercet.sim.faults import Faults
from tercet.sim.stream import Stream, Streams
from tercet.sim.trace import Trace, describe
from tercet.storage.interfaces import Bucket


class Packet(NamedTuple):
    """A message and, with a snapshot, its database. `is_torn`: the database ends early."""

    message: Message
    database: list[tuple[Bucket, bytes, bytes]] | None = None
    is_torn: bool = False


class Network:
    """All links of one cluster. `deliver` is called when a packet arrives; `lost` when one with a database does not.

    unreachable: called with (from, to) when a stream breaks, as production's transport reports it.
    """

    def __init__(
        self,
        clock: Clock,
        random: Random,
        trace: Trace,
        *,
        deliver: Callable[[Packet], None],
        lost: Callable[[Packet], None],
        unreachable: Callable[[int, int], None] = lambda sender, receiver: None,
        uses_streams: bool = False,
    ) -> None:
        self.faults = Faults()
        self._clock = clock
        self._random = random
        self._trace = trace
        self._deliver = deliver
        self._lost = lost
        self._unreachable = unreachable
        self._streams = Streams() if uses_streams else None
        self._cut: set[tuple[int, int]] = set()
        self._cut_off: set[int] = set()
        self._starved: dict[int, frozenset[MessageType]] = {}

    @property
    def is_cut(self) -> bool:
        return bool(self._cut or self._cut_off)

    def is_connected(self, one: int, other: int) -> bool:
        """Do both directions between the two work?"""
        return not ({one, other} & self._cut_off or {(one, other), (other, one)} & self._cut)

    def send(self, packet: Packet) -> None:
        """Send a packet; it may arrive once, twice or never."""
        message = packet.message
        if self._is_lost(message) or self._random.random() < self.faults.drop:
            self._lose(packet)
        elif packet.database is not None:
            self._send_database(packet)
        elif self._streams is not None:
            self._send_in_order(self._streams.of(message), message)
        else:
            self._send_datagram(message)

    def disconnect(self, member: int) -> None:
        """The member's process ended, and its connections with it."""
        if self._streams is not None:
            self._streams.break_all(member)

    # --- the two kinds

    def _send_datagram(self, message: Message) -> None:
        data = encode_message(message)
        self._clock.after(self._latency(), partial(self._datagram_arrived, data, message))
        if message.type != MessageType.PROP and self._random.random() < self.faults.duplicate:
            self._clock.after(self._latency(), partial(self._datagram_arrived, data, message))

    def _datagram_arrived(self, data: bytes, sent: Message) -> None:
        if self._is_lost(sent):
            self._lose(Packet(sent))
        else:
            self._deliver(Packet(decode_message(data)))

    def _send_in_order(self, stream: Stream, message: Message) -> None:
        data = stream.encode(message)
        stream.arrival = max(stream.arrival, self._clock.now + self._latency())
        self._clock.after(stream.arrival - self._clock.now, partial(self._bytes_arrived, stream, data, message))

    def _bytes_arrived(self, stream: Stream, data: bytes, sent: Message) -> None:
        if stream.is_broken:
            return  # reported when it broke
        if self._is_lost(sent):
            self._lose(Packet(sent))
            return
        for message in stream.decode(data, self._random):
            self._deliver(Packet(message))

    def _send_database(self, packet: Packet) -> None:
        """A snapshot is a request of its own, which is answered: its sender learns whether it arrived."""
        packet = packet._replace(is_torn=self._random.random() < self.faults.torn_snapshot)
        self._clock.after(self._latency(), partial(self._database_arrived, packet))
        if self._random.random() < self.faults.duplicate:
            self._clock.after(self._latency(), partial(self._database_arrived, packet))

    def _database_arrived(self, packet: Packet) -> None:
        if self._is_lost(packet.message):
            self._lose(packet)
        else:
            self._deliver(packet._replace(message=decode_message(encode_message(packet.message))))

    # --- cuts

    def cut(self, members: list[int]) -> None:
        """Partition the members in two groups, in one direction or both; or cut only some of the pairs between the groups."""
        random = self._random
        shuffled = members[:]
        random.shuffle(shuffled)
        size = random.randint(1, len(members) - 1)
        pairs = [(a, b) for a in shuffled[:size] for b in shuffled[size:]]
        if random.random() < 0.4:
            pairs = random.sample(pairs, random.randint(1, len(pairs)))
        direction = random.choice(("both", "both", "there", "back"))
        if direction != "back":
            self._cut.update(pairs)
        if direction != "there":
            self._cut.update((b, a) for a, b in pairs)
        self._trace_cuts()

    def split(self, side: Sequence[int], others: Sequence[int]) -> None:
        """Cut all links between two groups."""
        self._cut.update(pair for a in side for b in others for pair in ((a, b), (b, a)))
        self._trace_cuts()

    def cut_off(self, member: int) -> None:
        """Cut one member off from all others."""
        self._cut_off.add(member)
        self._trace_cuts()

    def cut_off_alone(self, member: int) -> None:
        """Cut one member off, and let all links between the others work."""
        if self._cut or self._starved or self._cut_off != {member}:
            self.mend()
            self.cut_off(member)

    def starve(self, member: int, kinds: frozenset[MessageType]) -> None:
        """Lose all messages of these kinds to one member, as when one of its streams breaks; others still arrive."""
        self._starved[member] = kinds
        self._trace("net", f"starves {member} of {' '.join(sorted(kind.name for kind in kinds))}")

    def feed(self, member: int) -> None:
        """End what `starve` began."""
        self._starved.pop(member, None)

    def mend(self) -> None:
        """Let all links work again."""
        self._cut.clear()
        self._cut_off.clear()
        self._starved.clear()
        self._trace("net", "mended")

    def _trace_cuts(self) -> None:
        links = [f"{a}>{b}" for a, b in sorted(self._cut)] + [f"{member} off" for member in sorted(self._cut_off)]
        self._trace("net", f"cut {' '.join(links)}")

    def _is_lost(self, message: Message) -> bool:
        sender, receiver = message.from_, message.to
        if (sender, receiver) in self._cut or (self._starved and message.type in self._starved.get(receiver, ())):
            return True
        return bool(self._cut_off) and (sender in self._cut_off or receiver in self._cut_off)

    def _latency(self) -> int:
        if self.faults.delay and self._random.random() < self.faults.delay:
            return self._random.randint(MILLISECOND, 3 * MICROSECONDS)
        return self._random.randint(MILLISECOND // 5, 8 * MILLISECOND)

    def _lose(self, packet: Packet) -> None:
        message = packet.message
        if self._trace.is_on and message.type not in (MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP):
            self._trace("net", f"loses {describe(message)}")
        if packet.database is not None:
            self._lost(packet)
        elif self._streams is not None:
            self._streams.break_stream(message)
            self._unreachable(message.from_, message.to)
