"""TLS between two transports: both certificates, renewal, and refusals."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.peer.harness import Member, append, exchange, member, request, run
from tests.peer.streams_by_hand import QUICK
from tests.peer.tls import FixedTls, contexts
from tests.support.waiting import until


async def _is_refused(one: Member, id: int) -> None:
    """Wait until a dial to that member has failed; no stream may be up."""
    peer = one.transport.peer(id)
    assert peer is not None
    await until(lambda: peer.status._failures)
    assert one.transport.active_since(id) is None


@pytest.mark.parametrize("client_certificate", [True, False])
def test_mutual_tls(client_certificate: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        server, client = contexts(tmp_path, client_certificate=client_certificate)
        async with (
            member(1, tmp_path / "1", tls=(server, client), limits=QUICK) as one,
            member(2, tmp_path / "2", tls=(server, client), limits=QUICK) as two,
        ):
            one.transport.add_peer(2, [two.url])
            two.transport.add_peer(1, [one.url])
            if client_certificate:
                await one.is_joined_to(2)
                one.transport.send([append(0, 1000)])
                await until(lambda: two.notes.messages)
                assert two.notes.messages == [append(0, 1000)]
            else:
                await _is_refused(one, 2)
                await _is_refused(two, 1)

    run(scenario())


def test_a_renewed_certificate_is_used_for_the_next_dial(tmp_path: Path) -> None:
    """A certificate that was read once, at start, would leave the cluster without a leader after it has expired."""

    async def scenario() -> None:
        server, good = contexts(tmp_path, client_certificate=True)
        unusable = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(tmp_path / "ca.pem"))
        dialers = FixedTls(unusable), FixedTls(unusable)
        async with (
            member(1, tmp_path / "1", tls=(server, dialers[0]), limits=QUICK) as one,
            member(2, tmp_path / "2", tls=(server, dialers[1]), limits=QUICK) as two,
        ):
            one.transport.add_peer(2, [two.url])
            two.transport.add_peer(1, [one.url])
            await _is_refused(one, 2)
            await _is_refused(two, 1)
            for dialer in dialers:
                dialer.current = good
            await one.is_joined_to(2)

    run(scenario())


def test_a_peer_whose_certificate_is_refused_is_not_dialled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        server, client = contexts(tmp_path, client_certificate=True)
        dialer = FixedTls(client, refusal="client certificate authentication failed")
        async with (
            member(1, tmp_path / "1", tls=(server, dialer), limits=QUICK) as one,
            member(2, tmp_path / "2", tls=(server, client), limits=QUICK) as two,
        ):
            one.transport.add_peer(2, [two.url])
            await until(
                lambda: any("certificate authentication failed" in str(vars(record).get("fields")) for record in caplog.records)
            )
            assert one.transport.active_since(2) is None
            dialer.refusal = ""
            two.transport.add_peer(1, [one.url])
            await one.is_joined_to(2)

    run(scenario())


def test_https_peers_need_certificates(tmp_path: Path) -> None:
    async def scenario() -> None:
        server, client = contexts(tmp_path, client_certificate=True)
        async with (
            member(1, tmp_path / "1", limits=QUICK) as one,
            member(2, tmp_path / "2", tls=(server, client), limits=QUICK) as two,
        ):
            one.transport.add_peer(2, [two.url])  # https, and 1 has no certificates
            two.transport.add_peer(1, [one.url.replace("http:", "https:")])
            await _is_refused(one, 2)
            await _is_refused(two, 1)
            answer = await exchange(two.port, request("GET", "/raft/probing"))
            assert answer == b""

    run(scenario())
