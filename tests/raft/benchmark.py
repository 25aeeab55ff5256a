"""The cost of Raft per entry: python -m tests.raft.benchmark prints microseconds per entry, the best of many runs.

A cycle of the leader: propose a batch, take_ready, its disk has written, two followers acknowledge, take_ready. A cycle of a
follower: one append with the batch, take_ready, its disk has written, take_ready. Budget: 1.5 us an entry on the leader, 1 us
on a follower beyond decoding.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from random import Random
from time import process_time

from tercet.raft import ConfState, Entry, Message, MessageType, Raft, RaftConfig, RaftLog, RawNode, Ready
from tercet.raft.codec import decode_entries, decode_entry, decode_message, encode_message
from tercet.raft.entry_batch import make_entries

VALUE = bytes(300)
CYCLES = 40
RUNS = 25


def member(id: int) -> RawNode:
    return RawNode(Raft(RaftConfig(id, random=Random(id)), RaftLog(), conf_state=ConfState(voters=(1, 2, 3))))


def finish(node: RawNode) -> list[Ready]:
    done = []
    while node.has_ready():
        ready = node.take_ready()
        node.persisted(ready.number)
        if ready.committed:
            node.raft.applied_to(ready.committed[-1].index)
        done.append(ready)
    return done


def leader() -> RawNode:
    node = member(1)
    node.raft.campaign()
    for kind, term in ((MessageType.PRE_VOTE_RESP, 1), (MessageType.VOTE_RESP, 1)):
        finish(node)
        node.raft.step(Message(kind, to=1, from_=2, term=term))
    finish(node)
    acknowledge(node)
    return node


def acknowledge(node: RawNode) -> None:
    raft = node.raft
    for follower in (2, 3):
        raft.step(Message(MessageType.APP_RESP, to=1, from_=follower, term=raft.term, index=raft.log.last_index))
    finish(node)


def leader_cycle(node: RawNode, batch: list[bytes]) -> None:
    node.raft.propose(batch)
    finish(node)
    acknowledge(node)


def follower_cycle(node: RawNode, entries: list[Entry]) -> None:
    index = entries[0].index - 1
    before = node.raft.log.term(index)
    message = Message(MessageType.APP, to=1, from_=2, term=1, log_term=before or 0, index=index, entries=entries, commit=index)
    node.raft.step(message)
    finish(node)


def best(run: Callable[[], object], entries: int) -> float:
    """Microseconds per entry of the fastest run; slower ones were disturbed."""
    times = []
    for _ in range(RUNS):
        start = process_time()
        run()
        times.append(process_time() - start)
    return min(times) / entries * 1e6


def run_leader(size: int) -> None:
    node, batch = leader(), [VALUE] * size
    for _ in range(CYCLES):
        leader_cycle(node, batch)
    node.raft.compact(node.raft.applied_index)


def run_follower(batches: list[list[Entry]]) -> None:
    node = member(1)
    for batch in batches:
        follower_cycle(node, batch)


def main() -> None:
    for size in (1, 30, 100, 250):
        entries = make_entries(1, 1, [VALUE] * size * CYCLES)
        batches = [entries[at : at + size] for at in range(0, len(entries), size)]
        on_leader = best(partial(run_leader, size), size * CYCLES)
        on_follower = best(partial(run_follower, batches), size * CYCLES)
        print(f"batches of {size:3}: leader {on_leader:6.2f} us, follower {on_follower:6.2f} us an entry")
    made = make_entries(5, 123_456, [VALUE] * 100)
    wires = [entry.wire for entry in made]
    message = Message(MessageType.APP, to=1, from_=2, term=5, log_term=5, index=123_455, entries=made)
    data = encode_message(message)
    proposals = [VALUE] * 100
    indexes = range(123_456, 123_556)
    costs: dict[str, Callable[[], object]] = {
        "make_entries": lambda: make_entries(5, 123_456, proposals),
        "encode_entry (slow twin)": lambda: [Entry(5, index, VALUE) for index in indexes],
        "decode_entries": lambda: decode_entries(wires, term=5, index=123_456),
        "decode_entry (slow twin)": lambda: [decode_entry(wire) for wire in wires],
        "encode_message": lambda: encode_message(message),
        "decode_message": lambda: decode_message(data),
    }
    for name, run in costs.items():
        print(f"{name:26} {best(run, 100):6.2f} us an entry")


if __name__ == "__main__":
    gc.disable()  # a server sets its thresholds; here only the work itself is measured
    main()
