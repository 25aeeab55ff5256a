"""What all members of a simulated cluster share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tercet.raft.types import Message
from tercet.replica.membership import Member
from tercet.sim.acknowledgements import Durable
from tercet.sim.clock import Clock
from tercet.sim.faults import Faults
from tercet.sim.network import Network
from tercet.sim.settings import Settings
from tercet.sim.trace import Trace


class Environment(NamedTuple):
    """Clock, network and faults of one simulation, and what a member reports to it."""

    clock: Clock
    network: Network
    trace: Trace
    faults: Callable[[], Faults]
    settings: Settings
    committed: Callable[[], int]
    """The highest index that any member knows to be committed."""
    sent: Callable[[int, Message, Durable], None]
    """Called for each message that leaves a member, with the member's id and what its log then has on disk."""
    received: Callable[[Message], None]
    """Called for each message that a member is about to process."""
    after_event: Callable[[int], None]
    """Called with a member's id after each of its events: the invariants are checked there."""
    initial_members: Sequence[int]
    member_added: Callable[[int], None]
    """A member applied a configuration change that adds this id."""
    find_members: Callable[[int], Sequence[Member]]
    """The cluster's members as another one knows them that this id can reach; empty where none answers, or does not know it."""
    may_lose_database: Callable[[int], bool]
    """Whether the others can elect a leader while this id is without its database."""
    removed_sender: Callable[[int], None]
    """A member received a message from this id, which it knows to be removed."""
