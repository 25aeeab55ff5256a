"""When a client asks a silent member for a sign of life, and when it gives the member up. Time is the test's."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import cast

from tercet.client.quiet_streams import QuietStreams
from tercet.client.silence import Silence

Answered = Callable[[int, str, bytes], object]


class Clock:
    """The parts of an event loop that are needed; `advance` runs what is due."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, int, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        heapq.heappush(self.timers, (when, len(self.timers), call))
        return cast(asyncio.TimerHandle, object())

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers and self.timers[0][0] <= end:
            when, _, call = heapq.heappop(self.timers)
            self.now = max(self.now, when)
            call()
        self.now = max(self.now, end)

    def stall(self, seconds: float) -> None:
        """The process does not run meanwhile; then everything that is due does."""
        self.now += seconds
        self.advance(0)


class FakeChannel:
    """Answers pings at once, unless it is frozen."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.is_usable = True
        self.waiting_calls = 1
        self.last_heard = clock.now
        self.is_frozen = True
        self.is_repeatable = False
        self.streams = 0
        self.pings: list[float] = []
        self.checks: list[float] = []

    def ping(self) -> None:
        self.pings.append(self.clock.now)
        if not self.is_frozen:
            self.last_heard = self.clock.now + 0.001

    @property
    def open_calls(self) -> int:
        return self.streams + self.waiting_calls

    def start_unary(self, path: str, message: bytes, callback: Answered, timeout: float | None = None) -> FakeChannel:
        self.checks.append(self.clock.now)
        if self.is_frozen:
            self.waiting_calls += 1
        else:
            self.last_heard = self.clock.now + 0.001
            callback(0, "", b"")
        return self


def begin(connecting_seconds: float = 0.001) -> tuple[Clock, FakeChannel, Silence, list[float]]:
    clock, found = Clock(), list[float]()
    channel = FakeChannel(clock)
    loop = cast(asyncio.AbstractEventLoop, clock)
    return clock, channel, Silence(loop, channel, connecting_seconds, lambda: found.append(clock.now)), found


def test_a_frozen_member_is_found_in_little_more_than_a_second() -> None:
    clock, channel, silence, found = begin()
    clock.advance(3600)  # idle
    silence.call_begins()
    began = clock.now
    clock.advance(30)
    (at,) = found
    assert at - began <= 1.5
    assert len(channel.pings) == 1
    assert not clock.timers


def test_an_idle_connection_has_no_timer_and_gets_no_ping() -> None:
    clock, channel, silence, found = begin()
    silence.call_begins()
    channel.waiting_calls = 0
    clock.advance(3600)
    assert not clock.timers
    assert not channel.pings
    assert not found


def test_a_member_that_answers_pings_gets_one_in_five_seconds() -> None:
    clock, channel, silence, found = begin()
    channel.is_frozen = False
    silence.call_begins()
    for _ in range(60):  # a call that takes a minute, and others that begin meanwhile
        silence.call_begins()
        clock.advance(1)
    assert not found
    assert len(channel.pings) >= 10
    assert min(later - earlier for earlier, later in zip(channel.pings, channel.pings[1:], strict=False)) >= 5.0


def test_a_member_that_answers_something_is_not_asked() -> None:
    clock, channel, silence, _ = begin()
    silence.call_begins()
    for _ in range(100):
        clock.advance(0.4)
        channel.last_heard = clock.now
    assert not channel.pings


def test_time_in_which_the_client_itself_stood_still_does_not_count() -> None:
    clock, channel, silence, found = begin()
    silence.call_begins()
    clock.stall(60)
    assert not channel.pings
    clock.advance(0.75)
    assert len(channel.pings) == 1
    clock.stall(60)  # the answer waits to be read
    assert not found
    channel.last_heard = clock.now
    channel.is_frozen = False
    clock.advance(2)
    assert not found


def test_a_slow_network_gets_more_patience() -> None:
    clock, _, silence, found = begin(connecting_seconds=1.0)
    silence.call_begins()
    clock.advance(7)
    assert not found
    clock.advance(2)
    assert found


def watch_only() -> tuple[Clock, FakeChannel, QuietStreams, list[float]]:
    clock, channel, silence, found = begin()
    channel.waiting_calls, channel.streams = 0, 1
    quiet = QuietStreams(cast(asyncio.AbstractEventLoop, clock), channel, 3.0, silence.call_begins)
    quiet.stream_begins()
    return clock, channel, quiet, found


def test_a_client_that_only_watches_finds_a_frozen_member_in_five_seconds() -> None:
    clock, channel, _, found = watch_only()
    channel.is_frozen = False
    clock.advance(60)
    channel.is_frozen, began = True, clock.now
    clock.advance(30)
    (at,) = found
    assert at - began <= 5.0
    assert len(channel.pings) == 1
    assert channel.is_repeatable, "it ends with the streams of the member"


def test_a_quiet_member_that_answers_gets_a_call_in_three_seconds_and_no_ping() -> None:
    clock, channel, quiet, found = watch_only()
    channel.is_frozen = False
    clock.advance(3000)
    quiet.stream_begins()
    assert 900 <= len(channel.checks) <= 1000
    assert not channel.pings
    assert not found


def test_a_stream_that_brings_something_costs_no_calls() -> None:
    clock, channel, _, _ = watch_only()
    for _ in range(100):
        clock.advance(2.9)
        channel.last_heard = clock.now
    assert not channel.checks


def test_without_streams_nobody_is_asked() -> None:
    clock, channel, _, _ = watch_only()
    channel.streams = 0
    clock.advance(3600)
    assert not clock.timers
    assert not channel.checks


def test_a_check_without_an_answer_is_not_repeated() -> None:
    """As behind a single endpoint: the silence is for the keepalive then."""
    clock, channel, _, _ = watch_only()
    channel.is_frozen = True
    clock.advance(60)
    assert len(channel.checks) == 1
