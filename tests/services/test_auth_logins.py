"""Logins on a member that leads a cluster of its own: tokens, passwords that change meanwhile, limits, and what is logged."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from tercet import errors
from tercet.auth.jwt import JwtKey, JwtTokens
from tercet.proto import auth_pb2, rpc_pb2
from tercet.rpc import RpcError
from tercet.services.passwords import Passwords
from tests.replica.lone_member import TOKEN_SECONDS
from tests.services.harness import run
from tests.services.users import READ, Put, Range, Users, with_users


def test_a_user_without_password_cannot_log_in() -> None:
    async def test(users: Users) -> None:
        await users.auth("UserAdd", name="cert", password="p", options=auth_pb2.UserAddOptions(no_password=True))
        for password in ("p", ""):
            login = rpc_pb2.AuthenticateRequest(name="cert", password=password)
            assert await users.outcome("Auth/Authenticate", login) == errors.NO_PASSWORD_USER.message

    with_users(test)


def test_a_token_is_refused_after_its_lifetime_a_new_password_and_the_end_of_its_user() -> None:
    async def test(users: Users) -> None:
        get = Range(key=b"a")
        await users.add("ann", (READ, b"a", b""))
        for end in ("lifetime", "password", "user"):
            token = await users.log_in("ann")
            assert await users.outcome("KV/Range", get, "ann") == ""
            if end == "lifetime":
                users.member.now += TOKEN_SECONDS + 1
                await users.log_in("root")
            elif end == "password":
                await users.auth("UserChangePassword", name="ann", password="secret")
            else:
                await users.auth("UserDelete", name="ann")
            assert await users.outcome("KV/Range", get, token=token) == errors.INVALID_AUTH_TOKEN.message, end
            assert await users.outcome("KV/Put", Put(key=b"a"), token=token) == errors.INVALID_AUTH_TOKEN.message, end

    with_users(test)


def test_a_signed_token_counts_at_the_auth_revision_that_it_names() -> None:
    async def test(users: Users) -> None:
        auth = users.member.replica.auth
        auth.tokens = JwtTokens(JwtKey("HS256", private=b"secret" * 8, public=b""), ttl_seconds=300, now=lambda: 1e9)
        for revision, text in (
            (0, errors.USER_EMPTY.message),
            (auth.revision - 1, errors.AUTH_OLD_REVISION.message),
            (auth.revision, ""),
        ):
            token = auth.tokens.sign("root", revision)
            assert await users.outcome("KV/Put", Put(key=b"a"), token=token) == text
            assert await users.outcome("KV/Range", Range(key=b"a"), token=token) == text
            assert await users.outcome("Auth/UserList", rpc_pb2.AuthUserListRequest(), token=token) == ""

    with_users(test)


def test_bearer_and_authorization_are_accepted_and_token_wins() -> None:
    async def test(users: Users) -> None:
        token = users.tokens["root"]
        for metadata in (
            [("token", token), ("authorization", "garbage")],
            [("authorization", token)],
            [("authorization", f"Bearer {token}")],
            [("token", f"Bearer {token}")],
        ):
            await users.member.call("KV/Range", Range(key=b"a"), rpc_pb2.RangeResponse, metadata=metadata)
        wrong = [("token", "garbage"), ("authorization", token)]
        with pytest.raises(RpcError, match="invalid auth token"):
            await users.member.call("KV/Range", Range(key=b"a"), rpc_pb2.RangeResponse, metadata=wrong)

    with_users(test)


def test_a_token_of_an_entry_that_is_not_applied_yet_waits_for_it() -> None:
    """Another member has issued it: its entry is committed, and this member is behind."""

    async def test(users: Users) -> None:
        member = users.member
        index = member.replica.applied_index + 1
        member.paused = True
        login = rpc_pb2.AuthenticateRequest(name="root", password="secret")
        answer = asyncio.ensure_future(users.call("Auth/Authenticate", login))
        early = [asyncio.ensure_future(users.outcome("KV/Put", Put(key=b"a"), token=f"{'x' * 16}.{index + 50}"))]
        await asyncio.sleep(0)
        assert not early[0].done(), "it waits for a read"
        member.resume()
        assert await early[0] == errors.INVALID_AUTH_TOKEN.message
        await answer

    with_users(test)


def test_a_password_that_changes_during_its_comparison_is_compared_again() -> None:
    async def test(users: Users) -> None:
        member = users.member
        auth = member.replica.auth
        await users.add("ann")
        revisions = []
        original = auth.password_of

        class Racing(Passwords):
            async def matches(self, password: str, hashed: bytes) -> bool:
                revisions.append(auth.revision)
                is_equal = await super().matches(password, hashed)
                if len(revisions) == 1:
                    await users.auth("UserChangePassword", name="ann", password="other")
                return is_equal

        member.auth_service._passwords = Racing(cost=4)
        login = rpc_pb2.AuthenticateRequest(name="ann", password="secret")
        assert await users.outcome("Auth/Authenticate", login) == errors.AUTH_FAILED.message
        assert len(revisions) == 2
        assert original("ann") != b""

    with_users(test)


def test_too_many_logins_at_once_are_refused() -> None:
    async def test() -> None:
        passwords = Passwords(cost=4)
        passwords._waiting = 1000
        with pytest.raises(errors.StatusError, match="too many requests"):
            await passwords.matches("p", b"")
        passwords.close()

    run(test())


def test_few_long_passwords_wait_at_once() -> None:
    """A thousand of a megabyte each would hold gigabytes."""

    async def test() -> None:
        passwords = Passwords(cost=4)
        released = threading.Event()
        for threads in (passwords._prompt_threads, passwords._flood_threads):
            for _ in range(threads._max_workers):
                threads.submit(released.wait)  # from Python 3.14 on, a call that ends at once does not wait
        waiting = asyncio.gather(*(passwords.matches("p" * 1_000_000, b"") for _ in range(6)), return_exceptions=True)
        asyncio.get_running_loop().call_soon(released.set)  # after the six have started
        outcomes = await waiting
        assert outcomes == [False] * 5 + [errors.TOO_MANY_REQUESTS]
        assert passwords._waiting == 0
        passwords.close()

    run(test())


@pytest.mark.parametrize("hashed", [b"", b"x", b"$2a$99$" + b"a" * 53])
def test_what_is_no_hash_matches_no_password(hashed: bytes) -> None:
    async def test() -> None:
        passwords = Passwords(cost=4)
        assert not await passwords.matches("", hashed)
        real = await passwords.hash("é" * 36)
        assert real.startswith(b"$2a$04$")
        assert await passwords.matches("é" * 36 + "cut", real)
        assert not await passwords.matches("é" * 35, real)
        passwords.close()

    run(test())


def test_no_password_and_no_token_is_in_the_log_or_in_an_entry(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test(users: Users) -> None:
        passwords = {"ann": "hunter2hunter2", "bob": "correct horse"}
        for user, password in passwords.items():
            await users.add(user, password=password)
            token = await users.log_in(user, password)
            assert await users.outcome("KV/Put", Put(key=b"k"), user) == errors.PERMISSION_DENIED.message
            wrong = rpc_pb2.AuthenticateRequest(name=user, password=password + "x")
            assert await users.outcome("Auth/Authenticate", wrong) == errors.AUTH_FAILED.message
            await users.outcome("KV/Put", Put(key=b"k"), token=token + "0")
            await users.auth("UserChangePassword", name=user, password=password[::-1])
        no_password = auth_pb2.UserAddOptions(no_password=True)
        await users.auth("UserAdd", name="cid", password="unused password", options=no_password)
        secrets = [*passwords.values(), *(word[::-1] for word in passwords.values()), "unused password"]
        for secret in (*secrets, *users.tokens.values()):
            assert secret not in caplog.text
        log = b"".join(entry.data for entry in users.member.disk.entries)
        assert not [secret for secret in secrets if secret.encode() in log]
        lines = [f"{record.getMessage()} {getattr(record, 'fields', {})}" for record in caplog.records]
        assert not [line for line in lines for secret in (*secrets, *users.tokens.values()) if secret in line]
        assert [line for line in lines if "token-fingerprint" in line]

    with_users(test)
