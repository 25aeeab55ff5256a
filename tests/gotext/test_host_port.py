from __future__ import annotations

import pytest

from tercet.gotext.host_port import unmapped


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::FFFF:7f00:1", "127.0.0.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("localhost", "localhost"),
        ("", ""),
    ],
)
def test_only_ipv4_mapped_addresses_change(host: str, expected: str) -> None:
    assert unmapped(host) == expected
