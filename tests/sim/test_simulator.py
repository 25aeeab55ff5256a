"""The simulator passes correct clusters, finds planted bugs, and runs a seed the same way every time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from zlib import crc32

import pytest
from click.testing import CliRunner

from tercet.cli.simulate import command
from tercet.raft import Raft
from tercet.raft.types import Entry, HardState
from tercet.replica.reads import ReadCallback
from tercet.replica.replica import Replica
from tercet.replica.state_machine import StateMachine
from tercet.sim.acknowledgements import Durable
from tercet.sim.backend import SimulatedBackend
from tercet.sim.disk import Disk
from tercet.sim.driver import SimulatedDriver
from tercet.sim.faults import NONE, Faults
from tercet.sim.log_store import SimulatedLogStore
from tercet.sim.member import SimulatedMember
from tercet.sim.simulator import KEYS, TICKS, NotConverged, Outcome, Simulator, run_seed
from tercet.sim.transport import SimulatedTransport
from tercet.storage.wal import WAL
from tests.support.fakes import uses_fakes
from tests.support.waiting import scaled

SOAK = [pytest.param(first, marks=pytest.mark.soak) for first in range(30, 200, 10)]


@pytest.mark.parametrize("first", [*range(0, 30, 10), *SOAK])
def test_seeds_hold(first: int) -> None:
    """No invariant breaks, and every history is linearizable."""
    outcomes = [run_seed(seed, ticks=TICKS) for seed in range(first, first + 10)]
    failed = [f"tercet sim --seed {one.seed} --ticks {TICKS} --trace: {one.failure}" for one in outcomes if one.failure]
    assert failed == []
    assert all(outcome.answered for outcome in outcomes)  # at least the reads of the recovery phase


def test_most_seeds_answer_requests_in_spite_of_the_faults() -> None:
    """Otherwise they would prove little. What a seed draws changes with every fault that is added, so no seed is named."""
    outcomes = [run_seed(seed, ticks=TICKS) for seed in range(30, 40)]
    assert sum(outcome.answered > 3 * KEYS for outcome in outcomes) >= len(outcomes) // 2


def test_faults_can_be_chosen() -> None:
    sim = Simulator(8274, members=3, faults=Faults(drop=0.05, cut=0.02, crash=0.02, slow_sync=0.1))
    sim.run(ticks=200)
    sim.heal()
    sim.run_until(sim.converged, ticks_max=200)
    sim.check()
    assert sim.clients.answered > 3 * KEYS  # more than the reads of the recovery phase


def test_without_faults_one_leader_answers_every_request() -> None:
    sim = Simulator(1, faults=NONE)
    sim.run(ticks=200)
    assert len(sim.agreement.witness.leaders) == 1
    unanswered = [
        operation for operation in sim.history if operation.returned is None and operation.called < sim.clock.now - 10**6
    ]
    assert unanswered == []


def test_a_seed_determines_the_run() -> None:
    """It runs twice in this process, and once in a process with another string hash."""
    program = "import sys; from tests.sim.test_simulator import trace_checksum; print(trace_checksum(3))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    other_process = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=scaled(60), check=True
    )
    this_process = trace_checksum(3)
    assert this_process == trace_checksum(3)
    assert this_process == int(other_process.stdout)
    assert this_process != trace_checksum(4)


def trace_checksum(seed: int) -> int:
    checksum = 0

    def write(line: str) -> None:
        nonlocal checksum
        checksum = crc32(line.encode(), checksum)

    outcome = run_seed(seed, ticks=TICKS, write_trace=write)
    assert outcome.failure is None
    return checksum


@pytest.mark.timeout(scaled(400))  # ten seconds of processor time
def test_rare_events_occur() -> None:
    """Without snapshots and torn logs the seeds would prove little."""
    missing = {
        "SNAP(",
        "fails to start: power cut",
        "is paused",
        "is resumed",
        "crashes",
        "cut ",
        "repaired",
        "TIMEOUT_NOW",
        "wrong crc",
        "no space left on device",
        "input/output error",
        "rejects a snapshot: the database ends early",
        "rejects",
        "has its database missing",
        "starts without a database",
    }
    seed = 0
    while missing and seed < 200:
        lines: list[str] = []
        run_seed(seed, ticks=TICKS, members=3, write_trace=lines.append)
        text = "\n".join(lines)
        missing = {event for event in missing if event not in text}
        seed += 1
    assert not missing


def test_a_cluster_that_does_not_converge_is_a_failure() -> None:
    class DropsAll(SimulatedMember):
        """Drops every packet."""

        def receive(self, packet: object) -> None:
            pass

    sim = Simulator(1, faults=NONE, member_type=DropsAll)
    with pytest.raises(NotConverged, match="converged not reached in 50 ticks: 1: PRE_CANDIDATE"):
        sim.run_until(sim.converged, ticks_max=50)


# Planted bugs: each breaks one guarantee of a production object. tests/mutants has many more.


class EarlyLogStore(SimulatedLogStore):
    """Reports a batch as durable when it is only queued."""

    def append(
        self, hard_state: HardState | None, entries: Sequence[Entry], *, then: Callable[[], None], sync: bool = True
    ) -> bool:
        super().append(hard_state, entries, then=lambda: None, sync=sync)
        self._schedule(0, then)
        return False


class AcknowledgesBeforeFsync(SimulatedMember):
    def make_log_store(self, wal: WAL, durable: Durable) -> SimulatedLogStore:
        store = super().make_log_store(wal, durable)
        store.__class__ = EarlyLogStore
        return store


class LocalReadReplica(Replica):
    """Answers reads from local state."""

    def read(self, then: ReadCallback) -> None:
        then(None)


class ReadsWithoutReadIndex(SimulatedMember):
    def make_replica(
        self,
        raft: Raft,
        log_store: SimulatedLogStore,
        transport: SimulatedTransport,
        state_machine: StateMachine,
        host: SimulatedDriver,
    ) -> Replica:
        replica = super().make_replica(raft, log_store, transport, state_machine, host)
        replica.__class__ = LocalReadReplica
        return replica


class LowIndexBackend(SimulatedBackend):
    """Reports an applied index that is two too low."""

    @property
    def applied_index(self) -> int:
        return max(0, super().applied_index - 2)


class AppliesTwiceAfterRestart(SimulatedMember):
    def make_backend(self, disk: Disk) -> SimulatedBackend:
        return LowIndexBackend(disk, self._random)


def first_failure(member_type: type[SimulatedMember], seeds: range) -> str:
    for seed in seeds:
        outcome = run_seed(seed, ticks=TICKS, member_type=member_type)
        if outcome.failure is not None:
            return outcome.failure
    raise AssertionError(f"{member_type.__name__}: not found with seeds {seeds}")


def test_acknowledging_before_fsync_is_found() -> None:
    assert "before it is durable" in first_failure(AcknowledgesBeforeFsync, range(5))


@uses_fakes
def test_reading_without_read_index_is_found() -> None:
    assert "a linearizable read misses what was committed" in first_failure(ReadsWithoutReadIndex, range(10))


def test_applying_twice_after_a_restart_is_found() -> None:
    failure = first_failure(AppliesTwiceAfterRestart, range(10))
    assert (
        "another revision at index" in failure
        or "another configuration at the same index" in failure
        or "not match with the log's snapshot" in failure
        or "before the commit index" in failure  # a crash as a snapshot was installed: the log begins at the index reported
    )


# The command.


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, arguments)
    return result.exit_code, result.output


def test_command_runs_many_seeds() -> None:
    code, output = run("--seeds", "0-2", "--ticks", "60")
    assert code == 0
    assert "3 seeds in" in output
    assert "0 failed" in output


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_command_stops_after_a_time(jobs: str) -> None:
    code, output = run("--seeds", "0-100000", "--ticks", "5", "--seconds", "0.1", "--jobs", jobs)
    assert code == 0
    assert "0 failed" in output


def test_command_traces_one_seed() -> None:
    code, output = run("--seed", "5", "--ticks", "50", "--members", "3", "--trace")
    assert code == 0
    assert "starts as 1" in output
    assert "the history is linearizable" in output


def test_command_prints_the_replay_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(seed: int, *, ticks: int, members: int | None) -> Outcome:
        return Outcome(seed, failure="InvariantViolation: two leaders" if seed == 7 else None)

    monkeypatch.setattr("tercet.cli.simulate.run_seed", broken)
    code, output = run("--seeds", "6-8", "--members", "5")
    assert code == 1
    assert "replay: tercet sim --seed 7 --ticks 120 --members 5 --trace\n" in output
    assert "1 failed" in output


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--seed", "1", "--seeds", "0-1"),
        ("--seeds", "5-1"),
        ("--seeds", "all"),
        ("--seeds", "0-1", "--trace"),
        ("--seed", "1", "--seconds", "5"),
    ],
)
def test_command_rejects(arguments: tuple[str, ...]) -> None:
    code, output = run(*arguments)
    assert code == 2
    assert "Error:" in output
