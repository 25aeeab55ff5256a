"""A new member of an existing cluster: which members' URLs are the same."""

from __future__ import annotations

import asyncio

import pytest

from tercet.server.bootstrap import _resolve


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("http://127.0.0.1:2380", "http://127.0.0.1:2380"),
        ("unix://127.0.0.1:2100200001", "unix://127.0.0.1:2100200001"),
        ("http://127.0.0.1:99999", "http://127.0.0.1:99999"),
        ("http://:2380", "http://:2380"),
        ("http://a.invalid:2380", "http://a.invalid:2380"),
        ("http://" + "a" * 70 + ":2380", "http://" + "a" * 70 + ":2380"),
        ("garbage", "garbage"),
    ],
)
def test_urls_that_other_members_have_recorded_are_compared_whatever_they_are(url: str, resolved: str) -> None:
    assert asyncio.run(_resolve(url)) == resolved
