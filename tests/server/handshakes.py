"""A TLS handshake between two contexts in memory."""

from __future__ import annotations

import ssl


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1") -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """(server side, client side), after one byte in each direction. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    dialing = client.wrap_bio(to_client, to_server, server_hostname=name)
    done = 0
    for _ in range(20):
        done = 0
        for end in (dialing, serving):
            try:
                end.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                pass
        if done == 2:
            break
    assert done == 2
    # In TLS 1.3 a client hears only with the first byte that its certificate was refused.
    dialing.write(b"x")
    assert serving.read(1) == b"x"
    serving.write(b"y")
    assert dialing.read(1) == b"y"
    return serving, dialing
