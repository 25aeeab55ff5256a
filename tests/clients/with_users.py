"""The `etcd3` and `aetcd` packages with user and password, against members with authentication enabled.

    with_users.py PORT_WITH_TLS CA CERTIFICATE KEY PORT_WITHOUT

User ann has the password `battery` and may read and write what begins with a; root has the password `horse`. Runs in the
environment of the third-party clients and imports nothing of tercet. Exits with 0 if all pass.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import aetcd
import etcd3
import grpc


def code_of(call: Callable[[], Any]) -> grpc.StatusCode | None:
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return None


def with_etcd3(port: int, ca: str, certificate: str, key: str) -> None:
    """It sends a token over TLS only."""

    def client(user: str, password: str) -> Any:
        files = {"ca_cert": ca, "cert_cert": certificate, "cert_key": key}
        return etcd3.client("127.0.0.1", port, user=user, password=password, timeout=10, **files)

    ann = client("ann", "battery")
    ann.put("a/1", "x")
    assert ann.get("a/1")[0] == b"x"
    for call in (lambda: ann.put("b", "x"), lambda: ann.get("b"), lambda: list(ann.get_prefix("b")), lambda: ann.delete("b")):
        assert code_of(call) is grpc.StatusCode.PERMISSION_DENIED
    client("root", "horse").put("b", "x")
    assert code_of(lambda: client("ann", "wrong")) is grpc.StatusCode.INVALID_ARGUMENT


async def with_aetcd(port: int) -> None:
    async with aetcd.Client("127.0.0.1", port, username="ann", password="battery", timeout=10) as ann:
        await ann.put(b"a/2", b"x")
        found = await ann.get(b"a/2")
        assert found is not None
        assert found.value == b"x"
        text = ""
        try:
            await ann.put(b"b", b"x")
        except Exception as error:
            text = repr(error)
        assert "permission denied" in text, text


if __name__ == "__main__":
    with_etcd3(int(sys.argv[1]), *sys.argv[2:5])
    asyncio.run(with_aetcd(int(sys.argv[5])))
    print("all held")
