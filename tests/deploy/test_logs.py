"""The journals of several hosts as one stream of lines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import cast

import pytest

from tercet.deploy.members.logs import follow_logs
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tests.deploy.scripted_host import cluster_of
from tests.support.waiting import scaled


class Journal:
    """A fake host with a journal. fails: the connection is lost after its lines. stays: the stream stays open."""

    def __init__(self, *lines: str, fails: bool = False, stays: bool = False) -> None:
        self.commands: list[str] = []
        self.is_open = False
        self._lines = lines
        self._fails = fails
        self._stays = stays

    async def lines(self, command: str, *, step: str) -> AsyncGenerator[str, None]:
        self.commands.append(command)
        self.is_open = True
        try:
            for line in self._lines:
                yield line
            if self._stays:
                await asyncio.sleep(60)
            if self._fails:
                raise HostError("m2", step, "SSH connection lost")
        finally:
            self.is_open = False


def heard(hosts: dict[str, Journal], *, follow: bool, enough: int = 100) -> list[tuple[str, str]]:
    async def listen() -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        asked = {name: cast(Host, host) for name, host in hosts.items()}
        async with (
            asyncio.timeout(scaled(5)),
            contextlib.aclosing(follow_logs(cluster_of(2), asked, follow=follow, lines=7)) as logs,
        ):
            async for entry in logs:
                found.append(entry)
                if len(found) == enough:
                    break
        assert not any(host.is_open for host in hosts.values())
        return found

    return asyncio.run(listen())


def test_without_follow_lines_are_in_order_of_time() -> None:
    """The hosts' time zones differ, and a line without a time stays behind the one before it."""
    hosts = {
        "m1": Journal(
            "2026-01-02T03:04:05.000002+0000 m1 etcd[7]: second",
            "a continuation",
            "2026-01-02T03:04:09.000000+0000 m1 etcd[7]: last",
        ),
        "m2": Journal(
            "2026-01-02T05:04:05.000001+0200 m2 systemd[1]: Started etcd.service.",
            '2026-01-02T05:04:08.500000+0200 m2 etcd[9]: {"level":"info","ts":"x","caller":"y","msg":"ready","at":"a b","n":3}',
        ),
    }
    assert heard(hosts, follow=False) == [
        ("m2", "2026-01-02T03:04:05.000001 systemd: Started etcd.service."),
        ("m1", "2026-01-02T03:04:05.000002 second"),
        ("m1", "a continuation"),
        ("m2", '2026-01-02T03:04:08.500000 info ready at="a b" n=3'),
        ("m1", "2026-01-02T03:04:09.000000 last"),
    ]
    assert hosts["m1"].commands == ["exec journalctl -u etcd.service -n 7 -o short-iso-precise --no-pager -q"]


@pytest.mark.parametrize("message", ["{", "{}", "[1]", '{"level":"info"}', '{"msg":1'])
def test_what_is_no_log_line_in_json_is_shown_as_it_is(message: str) -> None:
    stamp = "2026-01-02T03:04:05.000002"
    assert heard({"m1": Journal(f"{stamp}+0000 m1 etcd[7]: {message}")}, follow=False) == [("m1", f"{stamp} {message}")]


def test_follow_until_closed() -> None:
    hosts = {"m1": Journal("a", stays=True), "m2": Journal("b", "c", stays=True)}
    assert sorted(heard(hosts, follow=True, enough=3)) == [("m1", "a"), ("m2", "b"), ("m2", "c")]
    assert hosts["m1"].commands[0].endswith(" -f")


def test_follow_until_all_streams_end() -> None:
    assert sorted(heard({"m1": Journal("a"), "m2": Journal("b")}, follow=True)) == [("m1", "a"), ("m2", "b")]


def test_a_lost_connection_is_an_error() -> None:
    with pytest.raises(HostError, match=r"^m2: logs: SSH connection lost$"):
        heard({"m1": Journal("a", stays=True), "m2": Journal("b", fails=True)}, follow=True)
