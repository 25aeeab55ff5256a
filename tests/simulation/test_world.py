"""The world itself: virtual time, hosts, links, and what is refused."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
import uuid

import pytest

from tercet.intake import TURN_WORK, intake_of_running_loop
from tercet.simulation import Deadlock, NotDeterministic, SeedFailed, World, check_determinism, run_seed, sim_test


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serving(world: World) -> None:
    """An echo server on the host "server", port 7."""

    async def serve() -> None:
        await asyncio.start_server(echo, "0.0.0.0", 7)

    await world.host("server").run(serve())


async def ask(text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("server", 7)
    writer.write(text)
    answer = await reader.readexactly(len(text))
    writer.close()
    return answer


def test_waiting_takes_virtual_time_only() -> None:
    async def scenario(world: World) -> float:
        await asyncio.sleep(3000)
        return time.monotonic()

    assert World(1).run(scenario) >= 3000


def test_chance_and_clocks_follow_from_the_seed() -> None:
    async def scenario(world: World) -> object:
        await asyncio.sleep(random.random())
        return (os.urandom(4), uuid.uuid4(), secrets.token_hex(4), random.random(), time.time(), world.random.random())

    kept = random.getstate(), time.time
    assert World(1).run(scenario) == World(1).run(scenario)
    assert World(1).run(scenario) != World(2).run(scenario)
    assert (random.getstate(), time.time) == kept


def test_streams_connect_hosts_by_name() -> None:
    async def scenario(world: World) -> bytes:
        await serving(world)
        return await world.host("client").run(ask(b"hello"))

    assert World(1).run(scenario) == b"hello"


def test_a_connection_delivers_in_order_what_is_sent_in_many_pieces() -> None:
    """A piece with a lower latency than the one before arrives right after it, not at the same time: the order of timers with
    the same time is undefined."""

    async def scenario(world: World) -> None:
        await serving(world)
        reader, writer = await asyncio.open_connection("server", 7)
        sent = bytes(number % 251 for number in range(500))
        for byte in sent:
            writer.write(bytes([byte]))
            await asyncio.sleep(1e-5)
        assert await reader.readexactly(len(sent)) == sent
        writer.close()

    World(1).run(scenario)


def test_a_port_without_a_listener_refuses() -> None:
    async def scenario(world: World) -> None:
        world.host("server")
        with pytest.raises(ConnectionRefusedError):
            await world.host("client").run(ask(b"hello"))
        with pytest.raises(OSError, match="nowhere"):
            await asyncio.open_connection("nowhere", 7)

    World(1).run(scenario)


def test_a_blocked_link_holds_what_is_sent_until_it_heals() -> None:
    async def scenario(world: World) -> float:
        await serving(world)
        asking = world.host("client").start(ask(b"hello"))
        world.network.block([world.host("server")], [world.host("client")], both_ways=False)
        await asyncio.sleep(50)
        assert not asking.done()
        world.network.heal()
        assert await asking == b"hello"
        return world.now

    assert World(1).run(scenario) < 51


def test_a_paused_host_runs_nothing_until_it_resumes() -> None:
    async def scenario(world: World) -> None:
        await serving(world)
        world.host("server").pause()
        asking = world.host("client").start(ask(b"hello"))
        await asyncio.sleep(50)
        assert not asking.done()
        world.host("server").resume()
        assert await asking == b"hello"

    World(1).run(scenario)


def test_a_crash_resets_connections_and_runs_no_finally() -> None:
    ran = []

    async def hold() -> None:
        try:
            reader, _ = await asyncio.open_connection("server", 7)
            await reader.read()
        finally:
            ran.append("finally")

    async def scenario(world: World) -> None:
        await serving(world)
        server, client = world.host("server"), world.host("client")
        broken = world.host("other").start(hold())
        client.start(hold())
        await asyncio.sleep(1)
        world.crash(client)
        await asyncio.sleep(1)
        assert ran == []
        world.crash(server)
        with pytest.raises(ConnectionResetError):
            await broken
        with pytest.raises(ConnectionRefusedError):
            await world.host("late").run(ask(b"hello"))
        assert ran == ["finally"]

    World(1).run(scenario)


def test_a_host_that_crashes_before_its_next_turn_uses_up_no_turn_of_others() -> None:
    async def scenario(world: World) -> None:
        first, second = world.host("first"), world.host("second")

        async def spend_and_crash() -> None:
            intake_of_running_loop().spend(TURN_WORK)
            world.crash(first)

        async def left() -> int:
            return intake_of_running_loop().left

        first.start(spend_and_crash())
        await asyncio.sleep(1)
        assert await second.run(left()) == TURN_WORK
        assert await first.run(left()) == TURN_WORK

    World(1).run(scenario)


def test_a_slow_reader_stops_the_writer() -> None:
    async def scenario(world: World) -> int:
        sent = 0

        async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        async def serve() -> None:
            await asyncio.start_server(ignore, "0.0.0.0", 7)

        async def flood() -> None:
            nonlocal sent
            _, writer = await asyncio.open_connection("server", 7)
            while True:
                writer.write(bytes(10_000))
                await writer.drain()
                sent += 10_000

        await world.host("server").run(serve())
        world.host("client").start(flood())
        await asyncio.sleep(100)
        return sent

    assert 0 < World(1).run(scenario) < 1_000_000


def test_a_deadlock_is_an_error() -> None:
    async def scenario(world: World) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="all tasks wait"):
        World(1, limit_seconds=10).run(scenario)


@pytest.mark.parametrize("limit", [1.0, 100.0])
def test_a_run_ends_at_its_limit_of_virtual_time(limit: float) -> None:
    async def scenario(world: World) -> None:
        while True:
            await asyncio.sleep(0.1)

    world = World(1, limit_seconds=limit)
    with pytest.raises(TimeoutError, match=f"has not ended after {limit:g} virtual seconds"):
        world.run(scenario)
    assert limit <= world.now < limit + 1


def test_a_decorator_without_parentheses_is_refused() -> None:
    async def scenario(world: World) -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="with parentheses"):
        sim_test(scenario)  # type: ignore[arg-type]


def test_what_would_leave_the_world_is_refused() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(NotImplementedError, match="TLS is not simulated"):
            await asyncio.open_connection("server", 7, ssl=True)
        with pytest.raises(NotImplementedError, match="processes are not simulated"):
            await asyncio.create_subprocess_exec("true")
        with pytest.raises(NotImplementedError, match="Unix sockets are not simulated"):
            await asyncio.open_unix_connection("/tmp/none")
        with pytest.raises(RuntimeError, match=r"use asyncio\.sleep"):
            time.sleep(1)
        assert await asyncio.to_thread(int, "7") == 7  # at once, in the same thread

    World(1).run(scenario)


def test_a_failing_seed_is_named_and_can_be_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    @sim_test(seeds=50)
    async def scenario(world: World) -> None:
        seen.append(world.seed)
        world.note("before the end")
        assert world.seed != 7

    with pytest.raises(SeedFailed, match=r"seed 7 fails(.|\n)*before the end(.|\n)*TERCET_SIM_SEED=7") as failed:
        scenario()
    assert failed.value.seed == 7
    assert isinstance(failed.value.__cause__, AssertionError)
    monkeypatch.setenv("TERCET_SIM_SEED", "9")
    scenario()
    assert seen == [*range(8), 9]


def test_a_scenario_that_depends_on_the_machine_is_found() -> None:
    runs = []

    async def scenario(world: World) -> None:
        runs.append(1)
        await serving(world)
        await world.host("client").run(ask(b"x" * len(runs)))

    with pytest.raises(NotDeterministic, match="two runs of seed 3 differ"):
        check_determinism(scenario, 3)
    assert run_seed(scenario, 3).network.messages == 2
