"""How much of history one response holds: 1,000 revisions, 1 MiB, or up to 16 revisions and 16 MiB while memory allows."""

from __future__ import annotations

from tercet.mvcc import PREV_KV, Budget, Watch, whole_apply
from tercet.mvcc.watch_memory import BATCH_BYTES, LARGE_BATCH_BYTES, LARGE_BATCH_REVISIONS, LARGE_BATCHES_BYTES
from tests.mvcc.watching import Client, Put, Watched


def written(*sizes: int, key: bytes = b"a") -> Watched:
    """A put for each size, from revision 2 on."""
    watched = Watched()
    for size in sizes:
        whole_apply(watched.store.put(Put(key=key, value=bytes(size))))
    return watched


def sizes_of_responses(watched: Watched, *, takes_large: bool = True, flags: int = 0) -> list[int]:
    """How many events each response of a watch of all history holds."""
    client = opened(watched, takes_large=takes_large)
    begin(watched, client, flags)
    watched.settle()
    return [len(response) for response in client.responses[0]]


def opened(watched: Watched, *, room: int = 1 << 30, takes_large: bool = True) -> Client:
    client = Client(watched.hub, room)
    watched.hub.close(client.stream)
    client.stream = watched.hub.open(client, takes_large_batches=takes_large)
    return client


def begin(watched: Watched, client: Client, flags: int = 0) -> Watch:
    return watched.hub.create(client.stream, 0, b"a", b"", 2, flags)


def held(watched: Watched) -> int:
    return watched.hub._large_batches.held_bytes


def test_a_few_large_values_are_one_response() -> None:
    watched = written(*[BATCH_BYTES // 2] * 10)
    assert sizes_of_responses(watched) == [10]
    assert sizes_of_responses(watched, flags=PREV_KV) == [10]
    assert sizes_of_responses(watched, takes_large=False) == [2] * 5
    assert held(watched) == 0


def test_many_revisions_end_at_the_usual_size() -> None:
    """Clients refuse messages of more than 4 MiB: only values that are large themselves make such a response."""
    a_few = BATCH_BYTES // LARGE_BATCH_REVISIONS * 2
    assert sizes_of_responses(written(*[a_few] * 40)) == [16, 16, 8]
    small = BATCH_BYTES // LARGE_BATCH_REVISIONS // 4
    assert max(sizes_of_responses(written(*[small] * 200))) * small <= BATCH_BYTES


def test_a_large_response_ends_with_the_revision_that_reaches_its_limit() -> None:
    quarter = LARGE_BATCH_BYTES // 4
    assert sizes_of_responses(written(quarter, quarter, quarter, quarter, quarter)) == [4, 1]


def test_live_events_are_not_gathered_beyond_the_usual_size() -> None:
    watched = Watched()
    client = opened(watched)
    watched.hub.create(client.stream, 0, b"a", b"", 0, 0)
    for _ in range(4):
        whole_apply(watched.store.put(Put(key=b"a", value=bytes(BATCH_BYTES))))
    watched.settle()
    assert [len(response) for response in client.responses[0]] == [1] * 4


def test_responses_that_nobody_reads_leave_others_the_usual_size() -> None:
    """Each client holds what it was sent, until it reads or goes."""
    watched = written(*[BATCH_BYTES] * 12)
    count = (LARGE_BATCHES_BYTES - LARGE_BATCH_BYTES) // (12 * BATCH_BYTES)
    clients = [opened(watched, room=1) for _ in range(count + 1)]
    for client in clients:  # one after the other, since those that begin together share a batch
        begin(watched, client)
        watched.settle()
    *first, last = clients
    assert [len(client.responses[0][0]) for client in first] == [12] * len(first)
    assert len(last.responses[0][0]) == 1
    assert held(watched) >= 12 * BATCH_BYTES * len(first)
    watched.hub.close(first.pop().stream)
    first[0].read()
    last.read()
    watched.settle()
    assert [len(response) for response in last.responses[0]] == [1, 11]
    for client in clients:
        client.read()
    watched.settle()
    assert all(len(client.got(0)) == 12 for client in clients)
    assert held(watched) == 0


def test_a_watch_that_ends_while_a_large_batch_is_collected_leaves_no_memory_taken() -> None:
    watched = written(*[BATCH_BYTES] * 8)
    client = opened(watched)
    begin(watched, client)
    while not held(watched):
        assert watched.hub.step(Budget(1)), "all was sent"
    watched.hub.cancel(client.stream, 0)
    watched.settle()
    assert (held(watched), client.responses) == (0, {})
