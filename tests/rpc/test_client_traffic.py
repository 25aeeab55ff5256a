"""Counts by client address: bounded, and nothing is lost from the sum."""

from __future__ import annotations

from tercet.rpc.client_traffic import COUNTED_MAX, OTHERS, SHOWN_MAX, ClientTraffic, TrafficCount


def visit(traffic: ClientTraffic, address: str, calls: int, *, stays: bool = False) -> TrafficCount:
    count = traffic.connected((address, 1234))
    count.calls += calls
    count.bytes_in += 10 * calls
    if not stays:
        count.connections -= 1
    return count


def test_connections_of_one_address_share_a_count() -> None:
    traffic = ClientTraffic()
    assert visit(traffic, "10.0.0.1", 2) is visit(traffic, "10.0.0.1", 3)
    visit(traffic, "::1", 1)
    traffic.connected("").calls += 7  # a Unix socket
    shown = traffic.busiest()
    assert {address: count.calls for address, count in shown.items()} == {"10.0.0.1": 5, "::1": 1, "unix": 7}
    total = traffic.total()
    assert (total.bytes_in, total.bytes_out, total.calls, total.connections) == (60, 0, 13, 0)


def test_the_busiest_are_shown_and_the_sum_of_the_rest() -> None:
    traffic = ClientTraffic()
    for number in range(SHOWN_MAX + 50):
        visit(traffic, f"host{number}", number + 1)
    shown = traffic.busiest()
    assert len(shown) == SHOWN_MAX + 1
    assert "host49" not in shown
    assert shown["host50"].calls == 51
    assert shown[OTHERS].calls == sum(range(51))


def test_no_more_than_a_bounded_number_of_addresses_is_kept_and_no_call_is_lost() -> None:
    traffic = ClientTraffic()
    busy = visit(traffic, "busy", 10**6)
    idle = visit(traffic, "open", 0, stays=True)
    for number in range(3 * COUNTED_MAX):
        visit(traffic, f"host{number}", 1)
    assert len(traffic._counts) <= COUNTED_MAX
    assert traffic.busiest()["busy"].calls == busy.calls
    assert traffic.connected(("open", 1)) is idle  # never forgotten while it has a connection
    assert traffic.total().calls == 10**6 + 3 * COUNTED_MAX
    assert traffic.total().bytes_in == 10 * traffic.total().calls


def test_when_all_have_connections_a_new_address_is_counted_with_the_others() -> None:
    traffic = ClientTraffic()
    for number in range(COUNTED_MAX):
        visit(traffic, f"host{number}", 1, stays=True)
    late = visit(traffic, "late", 5, stays=True)
    assert visit(traffic, "later", 1, stays=True) is late
    assert late.calls == 6
    assert traffic.busiest()[OTHERS].calls == 6 + COUNTED_MAX - SHOWN_MAX
    assert traffic.total().calls == COUNTED_MAX + 6
