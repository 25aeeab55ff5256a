"""The load generator: counts, limits and failures."""

from __future__ import annotations

import asyncio
import random
from array import array
from collections import Counter
from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.bench import load, requests
from tercet.bench.keepalives import KeepAlives
from tercet.bench.latency import Measurement
from tercet.bench.load import Extent, Load, LoadFailed, close_channels, open_channels
from tercet.errors import Code, ConfigError
from tercet.proto import rpc_pb2
from tercet.rpc import ServerStream, UnaryCall, bidi_stream
from tests.client.member import Answer, member, run
from tests.support.waiting import scaled

PUT = requests.PUT_PATH
KEYS = requests.Keys(space=10, size=4)


def done(call: UnaryCall, _: bytes) -> None:
    call.reply(b"")


async def measure(answer: Answer, extent: Extent, *, clients: int = 8, connections: int = 2) -> tuple[Measurement, int]:
    """The measurement, and how many requests the member saw."""
    async with member({PUT: answer}) as up:
        channels = await open_channels([up.endpoint], connections, None)
        try:
            measured = await Load(PUT, requests.puts(KEYS, 8), extent).run(channels, clients)
        finally:
            await close_channels(channels)
        return measured, len(up.asked)


def test_total_is_exact() -> None:
    measured, seen = run(measure(done, Extent(total=500)))
    assert measured.requests == seen == 500
    assert not measured.errors
    assert list(measured.latencies) == sorted(measured.latencies)
    assert 0 < measured.latencies[0] <= measured.seconds
    assert measured.cpu_seconds > 0


def test_total_below_the_number_of_clients() -> None:
    measured, seen = run(measure(done, Extent(total=3)))
    assert measured.requests == seen == 3


def test_duration_ends_the_run_and_warmup_is_not_counted() -> None:
    for _ in range(5):
        measured, seen = run(measure(done, Extent(seconds=0.2, warmup=0.2)))
        assert 0.19 < measured.seconds < scaled(5)
        if measured.requests:  # else this process was paused for all of the time
            break
    assert 0 < measured.requests < seen


def test_the_number_in_flight_is_constant() -> None:
    waiting: list[UnaryCall] = []
    most = 0

    def answer_all() -> None:
        while waiting:
            done(waiting.pop(), b"")

    def later(call: UnaryCall, _: bytes) -> None:
        """Answers once 16 requests wait: with fewer in flight, none is answered."""
        nonlocal most
        waiting.append(call)
        most = max(most, len(waiting))
        if len(waiting) == 16:
            asyncio.get_running_loop().call_later(0.001, answer_all)

    measured, _ = run(measure(later, Extent(total=13 * 16), clients=16))
    assert measured.requests == 13 * 16
    assert most == 16


def test_errors_are_counted_separately() -> None:
    numbers = cycle(range(2))

    def sometimes(call: UnaryCall, _: bytes) -> None:
        call.fail(Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded") if next(numbers) else call.reply(b"")

    measured, _ = run(measure(sometimes, Extent(total=100)))
    assert (measured.requests, measured.failed) == (50, 50)
    assert measured.errors == {"etcdserver: mvcc: database space exceeded": 50}
    assert "failed: 50 x etcdserver: mvcc: database space exceeded" in measured.as_text()


def test_a_run_without_a_success_fails() -> None:
    def refuse(call: UnaryCall, _: bytes) -> None:
        call.fail(Code.UNAVAILABLE, "etcdserver: no leader")

    with pytest.raises(LoadFailed, match="no request succeeded: etcdserver: no leader"):
        run(measure(refuse, Extent(total=20)))


def test_a_lost_connection_fails_the_run() -> None:
    def hang_up(call: UnaryCall, _: bytes) -> None:
        call.connection.abort()

    with pytest.raises(LoadFailed, match="no request succeeded"):
        run(measure(hang_up, Extent(total=10_000)))


def test_a_stalled_member_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_STALL_SECONDS", 0.3)
    with pytest.raises(LoadFailed, match="no answer for 0 s to any of 8 requests"):
        run(measure(lambda call, _: None, Extent(seconds=5)))


def test_a_closed_port_fails_the_run() -> None:
    with pytest.raises(LoadFailed, match=r"127.0.0.1:1: connection error"):
        run(open_channels(["127.0.0.1:1"], 1, None))


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 100))
def test_a_percentile_bounds_that_share_of_latencies(latencies: list[float], percent: float) -> None:
    measured = Measurement(1.0, array("d", sorted(latencies)), {}, 0.0)
    value = measured.percentile(percent)
    assert value in measured.latencies
    assert sum(latency <= value for latency in latencies) * 100 >= percent * len(latencies) - 1e-6
    assert measured.percentile(0) == min(latencies)
    assert measured.percentile(100) == max(latencies)


def test_an_empty_run_has_zero_latencies() -> None:
    empty = Measurement(1.0, array("d"), {}, 0.0)
    assert (empty.percentile(99), empty.mean, empty.per_second, empty.cpu_per_request) == (0.0, 0.0, 0.0, 0.0)


class TestRequests:
    def test_puts_have_the_given_sizes(self) -> None:
        keys = requests.Keys(space=1000, size=20)
        decoded = [rpc_pb2.PutRequest.FromString(body) for body in islice(requests.puts(keys, 300), 1500)]
        assert {(len(put.key), len(put.value)) for put in decoded} == {(20, 300)}
        assert len({put.key for put in decoded}) == 1000

    def test_ranges_set_serializable(self) -> None:
        for serializable in (False, True):
            body = next(requests.ranges(KEYS, serializable=serializable))
            assert rpc_pb2.RangeRequest.FromString(body).serializable is serializable

    def test_a_txn_has_distinct_keys(self) -> None:
        for body in islice(requests.txns(KEYS, 8, 10), 5):
            keys = [part.request_put.key for part in rpc_pb2.TxnRequest.FromString(body).success]
            assert len(set(keys)) == len(keys) == 10
        with pytest.raises(ConfigError, match="raise --key-space"):
            next(requests.txns(KEYS, 8, 11))

    @given(st.integers(1, 500), st.integers(1, 100))
    def test_filling_puts_every_key_once(self, space: int, batch: int) -> None:
        keys = requests.Keys(space=space, size=4)
        found = [
            part.request_put.key
            for body in requests.filling(keys, 1, batch)
            for part in rpc_pb2.TxnRequest.FromString(body).success
        ]
        assert found == [keys.key(number) for number in range(space)]

    def test_few_large_values_are_kept(self) -> None:
        bodies = list(islice(requests.puts(requests.Keys(space=10_000, size=8), 1 << 20), 200))
        assert len({id(body) for body in bodies}) <= 64

    def test_keys_must_fit(self) -> None:
        with pytest.raises(ConfigError, match="1001 keys do not fit into 3 bytes"):
            requests.Keys(space=1001, size=3)
        assert len(requests.Keys(space=1000, size=3).sample(5000, random.Random(1))) == 1000


def test_renewals_are_streams_of_their_own_leases() -> None:
    ids = cycle(range(1, 1000))
    renewed: Counter[int] = Counter()

    def grant(call: UnaryCall, body: bytes) -> None:
        ttl = rpc_pb2.LeaseGrantRequest.FromString(body).TTL
        call.reply(rpc_pb2.LeaseGrantResponse(ID=next(ids), TTL=ttl).SerializeToString())

    async def keep_alive(stream: ServerStream) -> None:
        async for message in stream:
            lease = rpc_pb2.LeaseKeepAliveRequest.FromString(message).ID
            renewed[lease] += 1
            await stream.send(rpc_pb2.LeaseKeepAliveResponse(ID=lease, TTL=600).SerializeToString())

    async def test() -> Measurement:
        answers = {requests.GRANT_PATH: grant, requests.REVOKE_PATH: done}
        async with member(answers, streams={requests.KEEPALIVE_PATH: bidi_stream(keep_alive)}) as up:
            channels = await open_channels([up.endpoint], 2, None)
            try:
                return await KeepAlives(Extent(total=300)).run(channels, 6)
            finally:
                await close_channels(channels)

    measured = run(test())
    assert measured.requests == renewed.total() == 300
    assert len(renewed) == 6
    assert not measured.errors


def test_a_mixed_load_is_nine_reads_to_a_put() -> None:
    paths = Counter(path for path, _ in islice(requests.mixed(KEYS, 8), 1000))
    assert paths == {requests.PUT_PATH: 100, requests.RANGE_PATH: 900}


def test_a_lease_is_revoked_long_after_its_grant_was_sent() -> None:
    granted: dict[int, int] = {}
    for position, (path, body) in enumerate(islice(requests.grants_and_revokes(), 5000)):
        if path == requests.GRANT_PATH:
            granted[rpc_pb2.LeaseGrantRequest.FromString(body).ID] = position
        else:
            assert position - granted.pop(rpc_pb2.LeaseRevokeRequest.FromString(body).ID) >= requests.LEASES_HELD
    assert len(granted) == requests.LEASES_HELD


def test_compare_and_put_compares_the_version_of_the_key_it_puts() -> None:
    request = rpc_pb2.TxnRequest.FromString(next(requests.compare_and_puts(KEYS, 8)))
    (compare,), (operation,) = request.compare, request.success
    assert compare.key == operation.request_put.key
    assert (compare.target, compare.result) == (rpc_pb2.Compare.VERSION, rpc_pb2.Compare.GREATER)
