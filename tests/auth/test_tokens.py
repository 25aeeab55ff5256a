"""Simple tokens: lifetime, revocation, and which may come from an entry that is not applied yet."""

from __future__ import annotations

import pytest

from tercet.auth import NoTokens, SimpleTokens
from tercet.errors import AUTH_FAILED, RequestError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_its_random_part_and_an_index() -> None:
    tokens = SimpleTokens(clock=Clock(), ttl_seconds=300)
    prefixes = {tokens.new_prefix() for _ in range(100)}
    assert len(prefixes) == 100
    assert all(len(prefix) == 16 and prefix.isascii() and prefix.isalpha() for prefix in prefixes)
    assert tokens.assign("ann", "abcdefghijklmnop", 7, 7) == "abcdefghijklmnop.7"
    found = tokens.find(b"abcdefghijklmnop.7")
    assert found is not None
    assert (found.username, found.revision) == ("ann", None)
    assert tokens.find(b"abcdefghijklmnop.6") is found, "the form of etcd from 3.5.3 on"
    assert tokens.assign("ann", "p", 9, 8) == "p.8"
    assert tokens.find(b"abcdefghijklmnop.8") is None


def test_each_use_starts_the_lifetime_again() -> None:
    clock = Clock()
    tokens = SimpleTokens(clock=clock, ttl_seconds=300)
    token = tokens.assign("ann", "p", 1, 1).encode()
    for _ in range(3):
        clock.now += 299
        assert tokens.find(token) is not None
    clock.now += 301
    assert tokens.find(token) is None
    clock.now -= 301
    assert tokens.find(token) is None, "an expired token stays invalid"


def test_unused_tokens_are_forgotten() -> None:
    clock = Clock()
    tokens = SimpleTokens(clock=clock, ttl_seconds=300)
    for number in range(1000):
        tokens.assign("ann", f"p{number}", number, number)
    clock.now += 301
    for number in range(1000, 1300):
        tokens.assign("ann", f"p{number}", number, number)
        assert len(tokens._sessions) >= 2000 - 10 * (number - 998), "few in each login"
    assert len(tokens._sessions) == 2 * 300, "both forms"
    tokens.revoke("ann")
    for number in range(1300, 1400):
        tokens.assign("bob", f"p{number}", number, number)
    assert len(tokens._sessions) == 2 * 100


def test_the_tokens_of_a_user_are_revoked() -> None:
    tokens = SimpleTokens(clock=Clock(), ttl_seconds=300)
    ann, bob = tokens.assign("ann", "p", 1, 1).encode(), tokens.assign("bob", "q", 2, 2).encode()
    tokens.revoke("ann")
    assert tokens.find(ann) is None
    assert tokens.find(tokens.assign("ann", "r", 3, 3).encode()) is not None, "a later one"
    assert tokens.find(ann) is None
    assert tokens.find(bob) is not None
    tokens.revoke_all()
    assert tokens.find(bob) is None


@pytest.mark.parametrize(
    ("token", "index"),
    [
        (b"abcdefghijklmnop.12", 13),
        (b"garbage", 0),
        (b"a.b", 0),
        (b"a.1.2", 0),
        (b".1", 0),
        (b"a.-1", 0),
        (b"a." + b"9" * 30, 0),
        (b"a.18446744073709551614", (1 << 64) - 1),
    ],
)
def test_the_index_of_an_unknown_token_is_read_from_it(token: bytes, index: int) -> None:
    tokens = SimpleTokens(clock=Clock(), ttl_seconds=300)
    assert tokens.index_of(token) == index
    tokens.assign("ann", "abcdefghijklmnop", 12, 12)
    assert tokens.index_of(b"abcdefghijklmnop.12") == 0, "a known token waits for nothing"


def test_without_tokens_every_login_is_rejected() -> None:
    tokens = NoTokens()
    assert tokens.find(b"a.1") is None
    with pytest.raises(RequestError) as refused:
        tokens.assign("ann", "", 1, 1)
    assert refused.value is AUTH_FAILED
