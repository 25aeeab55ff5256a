"""The TLS engine: any chunking of the ciphertext, close_notify, and the words for failures."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tercet.tls import TlsEngine, rejection_reason
from tests.server.certificates import Authority
from tests.support.properties import examples


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    directory: Path = tmp_path_factory.mktemp("tls")
    authority = Authority(directory)
    pair = authority.sign("s", "server", "127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.cert, pair.key)
    return server, ssl.create_default_context(cafile=authority.path)


def connected(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> tuple[TlsEngine, TlsEngine]:
    server = TlsEngine(contexts[0], server_side=True)
    client = TlsEngine(contexts[1], server_side=False, server_hostname="127.0.0.1")
    done = False
    while not done:
        done = client.handshake()
        server.receive(client.to_send())
        done = server.handshake() and done
        client.receive(server.to_send())
    return server, client


def drain(engine: TlsEngine, size: int = 1 << 16) -> bytes:
    buffer = memoryview(bytearray(size))
    out = b""
    while count := engine.read_into(buffer):
        out += bytes(buffer[:count])
    return out


@examples(30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.binary(min_size=1, max_size=70_000), st.integers(1, 40_000), st.integers(100, 70_000))
def test_chunking_does_not_change_the_plaintext(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], data: bytes, chunk: int, buffer: int
) -> None:
    server, client = connected(contexts)
    client.write(data)
    ciphertext = client.to_send()
    received = b""
    for start in range(0, len(ciphertext), chunk):
        server.receive(ciphertext[start : start + chunk])
        received += drain(server, buffer)
    assert received == data
    assert not server.is_ended


def test_a_buffer_is_filled_with_several_records(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = connected(contexts)
    client.write(b"x" * 100_000)  # seven records
    server.receive(client.to_send())
    assert server.read_into(memoryview(bytearray(1 << 17))) == 100_000


def test_only_a_part_of_many_records_is_decrypted_at_once(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """OpenSSL would have taken all of them in one call: records without plaintext, such as key updates, in 20 us each."""
    server, client = connected(contexts)
    for _ in range(10_000):
        client.write(b"x")
    server.receive(client.to_send())
    buffer = memoryview(bytearray(1 << 16))
    first = server.read_into(buffer, until=0.0)
    assert 0 < first < 1000
    assert server.is_holding
    assert first + server.read_into(buffer) == 10_000
    assert not server.is_holding


def test_close_notify_ends_the_stream_after_the_data(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = connected(contexts)
    client.write(b"last")
    client.close()
    server.receive(client.to_send())
    assert drain(server) == b"last"
    assert server.is_ended


def test_a_damaged_record_is_an_error_with_an_alert(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, client = connected(contexts)
    client.write(b"data")
    server.receive(client.to_send()[:-1] + b"\0")
    with pytest.raises(ssl.SSLError) as caught:
        drain(server)
    assert server.to_send()
    reasons = {"tls: decryption failed or bad record mac", "tls: record layer failure"}  # the second from OpenSSL 3.5
    assert rejection_reason(caught.value) in reasons
