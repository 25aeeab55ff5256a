"""One run of a simulated cluster, determined by its seed.

Fault phase: anything may break; after every event the invariants of raft and the agreement of the members are checked. Recovery
phase: faults stop, and the members must converge within a bound. Then the clients' history is checked.

    sim = Simulator(8274, members=3, faults=Faults(drop=0.05))
    sim.run(ticks=400); sim.heal(); sim.run_until(sim.converged, ticks_max=200); sim.check()
`run_seed` does all of this with faults drawn from the seed; it is what `tercet sim --seed 8274` runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from traceback import format_exception

from tercet.errors import TercetError
from tercet.raft.types import Message
from tercet.replica.membership import Member
from tercet.sim.acknowledgements import Durable, Progress
from tercet.sim.agreement import Agreement, check_same_state
from tercet.sim.auth_model import check_auth
from tercet.sim.clients import Clients
from tercet.sim.clock import TICK, Clock
from tercet.sim.driver import REMOVAL_DELAY
from tercet.sim.environment import Environment
from tercet.sim.faults import Faults
from tercet.sim.history import Kind, Operation, Undecided
from tercet.sim.lease_rules import check_leases, has_expiring
from tercet.sim.linearizability import check_linearizable
from tercet.sim.member import SimulatedMember
from tercet.sim.nemesis import Nemesis
from tercet.sim.network import Network, Packet
from tercet.sim.replies import check_replies, check_store
from tercet.sim.revisions import check_revisions
from tercet.sim.scenarios import others_can_lead
from tercet.sim.settings import Settings
from tercet.sim.trace import Trace
from tercet.sim.watchers import Watchers

CLIENTS = 6
KEYS = 3
RECOVERY_TICKS = 300
_EXPIRY_TICKS = 100  # the longest TTL and the extension by a new leader, twice
TICKS = 120  # of the fault phase, unless told otherwise


class NotConverged(TercetError):
    """The cluster did not converge in time although no fault was left."""


class Simulator:
    """A cluster, its clients and its faults, in virtual time. All chance comes from `seed`."""

    def __init__(
        self,
        seed: int,
        *,
        members: int = 3,
        faults: Faults | None = None,
        settings: Settings | None = None,
        clients: int = CLIENTS,
        keys: int = KEYS,
        member_type: type[SimulatedMember] = SimulatedMember,
        write_trace: Callable[[str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.faults = Faults() if faults is None else faults
        self.clock = Clock()
        self.trace = Trace(self.clock, write_trace)
        self.agreement = Agreement()
        self.events = 0
        self._random_answers = self._random("answers")
        self._roles: dict[int, str] = {}  # for the trace
        self.settings = Settings() if settings is None else settings
        self.network = Network(
            self.clock,
            self._random("network"),
            self.trace,
            deliver=self._deliver,
            lost=lambda packet: self._by_id[packet.message.from_].snapshot_sent(packet, ok=False),
            unreachable=lambda sender, receiver: self._by_id[sender].unreachable(receiver),
            uses_streams=self.settings.uses_streams,
        )
        self._environment = Environment(
            self.clock,
            self.network,
            self.trace,
            lambda: self.nemesis.faults,
            self.settings,
            lambda: self.agreement.witness.committed_last,
            self._sent,
            self.agreement.acknowledgements.received,
            after_event=self._after_event,
            initial_members=range(1, members + 1),
            member_added=self._ensure_member,
            find_members=self._find_members,
            may_lose_database=lambda member_id: others_can_lead(self._by_id[member_id], self.members),
            removed_sender=lambda member_id: self._leave_soon(self._by_id[member_id]),
        )
        self._member_type = member_type
        self.members: list[SimulatedMember] = []
        """All members of the run; those that were removed are down."""
        self._by_id: dict[int, SimulatedMember] = {}
        for member_id in self._environment.initial_members:
            self._create_member(member_id)
        self.nemesis = Nemesis(
            self.clock,
            self._random("nemesis"),
            self.faults,
            self.network,
            self.members,
            joint_changes=self.settings.joint_changes,
        )
        self.clients = Clients(
            self.clock,
            self._random("clients"),
            self.trace,
            self.members,
            count=clients,
            keys=keys,
            uses_auth=self.settings.uses_auth,
            answered=self.agreement.leases.answered,
        )
        self.watchers = Watchers(self.clock, self._random("watchers"), self.members)
        for member in self.members:
            member.start()
        self.clients.start()
        self.watchers.start()
        self.nemesis.start(self.clients.burst, self.clients.decide)

    @property
    def history(self) -> list[Operation]:
        """All operations that a member accepted, in order of their calls."""
        return self.clients.history

    def run(self, ticks: int) -> None:
        """Run all events of so many ticks. Raises what an invariant or a member raises."""
        self.clock.run_until(self.clock.now + ticks * TICK)

    def run_until(self, condition: Callable[[], bool], *, ticks_max: int) -> None:
        """Run until `condition` holds. Raises NotConverged after `ticks_max`."""
        for _ in range(ticks_max):
            if condition():
                return
            self.run(ticks=1)
        if not condition():
            name = getattr(condition, "__name__", "condition")
            raise NotConverged(f"{name} not reached in {ticks_max} ticks: {self.state()}")

    def heal(self) -> None:
        """Begin the recovery phase: no more faults, no new requests."""
        self.trace("sim", "recovery phase")
        self.nemesis.stop()
        self.clients.stop()

    def converged(self) -> bool:
        """One leader that all follow, all applied everywhere, no compaction going on, no client waiting, no damage left, and no
        joint configuration that ends by itself.
        """
        members = self.current_members()
        if any(member.database.backend.rot.key is not None or not member.serves_clients for member in members):
            return False
        replicas = [member.replica for member in members]
        leader = next((replica.raft for replica in replicas if replica and replica.is_leader), None)
        if leader is None or leader.conf_state.auto_leave or not self.clients.is_idle:
            return False
        return all(
            replica is not None
            and replica.leader_id == leader.id
            and replica.term == leader.term
            and replica.applied_index == leader.log.last_index
            and not replica.alarms.corrupt
            and replica.store.finished_compact_revision == replica.store.compact_revision
            for replica in replicas
        )

    def current_members(self) -> list[SimulatedMember]:
        """The members of the newest configuration that any member has applied."""
        running = [member.replica for member in self.members if member.replica is not None and member.serves_clients]
        if not running:
            return self.members
        newest = max(running, key=lambda replica: replica.applied_index)
        return [self._by_id[member_id] for member_id in newest.membership.members if member_id in self._by_id]

    @staticmethod
    def _leave_soon(member: SimulatedMember) -> None:
        member.process.schedule(REMOVAL_DELAY, member.leave)

    def answered(self) -> bool:
        """No client waits."""
        return self.clients.is_idle

    def leases_expired(self) -> bool:
        """Nobody renews leases any more, and those with short TTLs are gone."""
        return not has_expiring(member.replica.lessor for member in self.current_members() if member.replica is not None)

    def check(self) -> None:
        """Read every key through every member, then check data and history. Call it when converged.

        Raises HistoryViolation, InvariantViolation, NotConverged, or Undecided.
        """
        self.run_until(self.leases_expired, ticks_max=_EXPIRY_TICKS)
        self.run_until(self.converged, ticks_max=RECOVERY_TICKS)
        reads = len(self.history)
        members = self.current_members()
        self.clients.read_everything(members)
        self.run_until(self.answered, ticks_max=RECOVERY_TICKS)
        unanswered = [str(operation) for operation in self.history[reads:] if operation.returned is None]
        if unanswered:
            raise NotConverged(f"no reply although no fault is left: {unanswered[0]}")
        self.run_until(self.converged, ticks_max=RECOVERY_TICKS)  # leaders go on to checkpoint leases
        check_same_state(members)
        live = cache(self.agreement.model.live)
        for member in members:
            if member.replica is not None:
                check_store(member.replica.store, member.database.backend, self.agreement.model, live)
                check_leases(member.replica.lessor, self.agreement.model.leases)
                check_auth(member.replica.auth, self.agreement.model.auth.state)
        self.watchers.check(members, self.agreement.model)
        check_replies(self.history, self.agreement.model)
        check_revisions(self.history)
        check_linearizable(operation for operation in self.history if operation.kind is not Kind.REQUEST)

    def state(self) -> str:
        """The state of every member, in one line."""
        lines = []
        for member in self.members:
            if member.replica is None:
                lines.append(f"{member.id}: down")
                continue
            raft = member.replica.raft
            lines.append(
                f"{member.id}: {raft.role.name} in term {raft.term}, leader {raft.leader_id}, {raft.log}, "
                f"committed {raft.commit_index}, applied {member.replica.applied_index}"
            )
        return "; ".join(lines)

    def _random(self, purpose: str) -> Random:
        """A generator of its own for each purpose: more draws in one do not change what the others draw."""
        return Random(f"{self.seed} {purpose}")

    def _deliver(self, packet: Packet) -> None:
        receiver = self._by_id.get(packet.message.to)
        if packet.database is not None:
            is_delivered = receiver is not None and receiver.is_up
            self._by_id[packet.message.from_].snapshot_sent(packet, ok=is_delivered)
        if receiver is not None:
            receiver.receive(packet)

    def _sent(self, sender: int, message: Message, durable: Durable) -> None:
        replica = self._by_id[sender].replica
        own = Progress(0, 0) if replica is None else Progress(replica.raft.commit_index, replica.applied_index)
        self.agreement.acknowledgements.sent(sender, message, durable, self.agreement.witness.committed_last, own)

    def _create_member(self, member_id: int) -> SimulatedMember:
        member = self._member_type(member_id, self._random(f"member {member_id}"), self._environment)
        self._by_id[member_id] = member
        self.members.append(member)
        return member

    def _ensure_member(self, member_id: int) -> None:
        """A member was added to the cluster: start it, a tick later."""
        if member_id not in self._by_id:
            self.clock.after(TICK, self._create_member(member_id).start)

    def _find_members(self, asker: int) -> Sequence[Member]:
        others = [
            member
            for member in self.members
            if member.replica is not None and not member.process.is_paused and self.network.is_connected(asker, member.id)
        ]
        if not others:
            return ()
        replica = self._random_answers.choice(others).replica
        assert replica is not None
        members = replica.membership.sorted()
        return members if len(members) > 1 and asker in replica.membership.members else ()

    def _after_event(self, member_id: int) -> None:
        member = self._by_id[member_id]
        self.events += 1
        if self.trace.is_on:
            self._trace_role(member)
        self.agreement.check(member, self.clock.now)

    def _trace_role(self, member: SimulatedMember) -> None:
        if member.replica is None:
            return
        raft = member.replica.raft
        role = f"{raft.role.name} in term {raft.term}"
        if self._roles.get(member.id) != role:
            self._roles[member.id] = role
            self.trace(member.id, f"is {role}")


@dataclass(slots=True)
class Outcome:
    """Result of one seed; `failure` is None if nothing was wrong. Plain data, so that it can be sent between processes."""

    seed: int
    failure: str | None = None
    traceback: str = ""
    is_undecided: bool = False
    answered: int = 0
    events: int = 0
    terms: int = 0


def run_seed(
    seed: int,
    *,
    ticks: int,
    members: int | None = None,
    member_type: type[SimulatedMember] = SimulatedMember,
    write_trace: Callable[[str], None] | None = None,
) -> Outcome:
    """Run both phases and the checks. The seed also draws the faults and, where `members` is None, the size of the cluster."""
    random = Random(f"{seed} settings")
    size = random.choice((3, 3, 3, 5, 4, 2, 1)) if members is None else members
    outcome = Outcome(seed)
    sim = Simulator(
        seed,
        members=size,
        faults=Faults.draw(Random(f"{seed} faults")),
        settings=Settings.draw(random),
        member_type=member_type,
        write_trace=write_trace,
    )
    try:
        sim.run(ticks)
        sim.heal()
        sim.run_until(sim.converged, ticks_max=RECOVERY_TICKS)
        sim.check()
    except Undecided:
        outcome.is_undecided = True
    except Exception as failure:
        sim.trace("sim", f"FAILED: {failure}")
        outcome.failure = f"{type(failure).__name__}: {failure}"
        outcome.traceback = "".join(format_exception(failure))
    outcome.answered = sim.clients.answered
    outcome.events = sim.events
    outcome.terms = len(sim.agreement.witness.leaders)
    return outcome
