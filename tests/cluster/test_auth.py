"""Authentication on real members: client certificates, JSON Web Tokens, etcdctl's commands, what the log shows, bad flags."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tercet import errors
from tercet.pki import ensure_certificates
from tercet.proto import rpc_pb2
from tests.cluster.conftest import Planned
from tests.support.client import Client
from tests.support.processes import QUICK, Cluster, Member, etcdctl, wait_until
from tests.support.waiting import scaled

DEBUG = ("--log-level=debug", "--bcrypt-cost=4", *QUICK)
PASSWORDS = {"root": "correct-horse", "ann": "battery-staple"}


def run(members: list[Member], *words: str, user: str = "") -> str:
    """The output of etcdctl, which must succeed."""
    done = ctl(members, *words, user=user)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ctl(members: list[Member], *words: str, user: str = "") -> subprocess.CompletedProcess[str]:
    return etcdctl(members, *words, *([f"--user={user}:{PASSWORDS[user]}"] if user else []))


def check_denied(member: Member, *words: str, user: str, text: str = errors.PERMISSION_DENIED.message) -> None:
    done = ctl([member], *words, user=user)
    assert done.returncode != 0
    assert text in done.stderr


def authenticate(client: Client, user: str) -> str:
    request = rpc_pb2.AuthenticateRequest(name=user, password=PASSWORDS[user])
    return client.call("Auth/Authenticate", request, rpc_pb2.AuthenticateResponse, scaled(10)).token


def set_up(members: list[Member], *, root_password: bool = True) -> None:
    """With etcdctl's own commands: root, and ann, who may read and write what begins with a."""
    password = [f"root:{PASSWORDS['root']}"] if root_password else ["root", "--no-password"]
    run(members, "user", "add", *password)
    run(members, "user", "add", f"ann:{PASSWORDS['ann']}")
    run(members, "role", "add", "a")
    run(members, "role", "grant-permission", "a", "readwrite", "a", "--prefix")
    run(members, "user", "grant-role", "ann", "a")
    run(members, "auth", "enable")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """n1, n2, n3 with authentication enabled."""
    cluster = Cluster.plan(tmp_path_factory.mktemp("auth"), flags=DEBUG)
    try:
        set_up(cluster.start().members)
        yield cluster
    finally:
        cluster.dispose()


def test_etcdctl_works_as_its_user_on_every_member(three: Cluster) -> None:
    for member in three.members:
        run([member], "put", "a1", "v", user="ann")
        assert run([member], "get", "a1", user="ann").split() == ["a1", "v"]
        check_denied(member, "put", "b1", "v", user="ann")
        check_denied(member, "get", "a", "c", user="ann")
        check_denied(member, "user", "list", user="ann")
        check_denied(member, "get", "a1", user="", text=errors.USER_EMPTY.message)
        assert run([member], "user", "list", user="root").split() == ["ann", "root"]
        assert "AuthRevision: 8" in run([member], "auth", "status", user="root")


def test_a_token_is_valid_on_every_member_at_once(three: Cluster) -> None:
    """The client of one member takes the token to another, which may not have applied its entry yet."""
    for number in range(12):
        token = authenticate(three.members[number % 3].client, "ann")
        put = three.members[(number + 1) % 3].client.channel.unary_unary("/etcdserverpb.KV/Put")
        put(rpc_pb2.PutRequest(key=b"a").SerializeToString(), timeout=scaled(10), metadata=[("token", token)])


def test_a_restarted_member_has_the_same_users_and_auth_revision(three: Cluster) -> None:
    member = three.members[0]
    member.kill()
    member.restart()
    run([member], "put", "a1", "v", user="ann")
    check_denied(member, "put", "b1", "v", user="ann")
    assert "etcd_debugging_auth_revision 8" in member.http("/metrics")[1]


def test_the_leases_of_users_expire(three: Cluster) -> None:
    """The leader revokes them, and is no user that logs in."""
    client = three.members[0].client
    metadata = [("token", authenticate(client, "ann"))]
    for path, request in (
        ("Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=7, TTL=4)),
        ("KV/Put", rpc_pb2.PutRequest(key=b"a-leased", lease=7)),
    ):
        call = client.channel.unary_unary(f"/etcdserverpb.{path}")
        call(request.SerializeToString(), timeout=scaled(10), metadata=metadata)
    wait_until(lambda: not run(three.members, "get", "a-leased", user="ann"), "the lease has expired")


def test_no_password_and_no_token_is_in_a_log(three: Cluster) -> None:
    tokens = [authenticate(member.client, user) for member in three.members for user in PASSWORDS]
    for member in three.members:
        put = member.client.channel.unary_unary("/etcdserverpb.KV/Put")
        for token in tokens:
            with pytest.raises(grpc.RpcError):
                put(rpc_pb2.PutRequest(key=b"b").SerializeToString(), timeout=scaled(10), metadata=[("token", token + "0")])
        wrong = rpc_pb2.AuthenticateRequest(name="ann", password=PASSWORDS["ann"] + "x")
        with pytest.raises(grpc.RpcError, match="authentication failed"):
            member.client.call("Auth/Authenticate", wrong, rpc_pb2.AuthenticateResponse, scaled(10))
    for member in three.members:
        said = member.log.read_text()
        assert "invalid auth token" in said
        assert not [secret for secret in (*PASSWORDS.values(), *tokens) if secret in said]


def test_the_common_name_of_the_certificate_is_the_user(plan: Planned, tmp_path: Path) -> None:
    """`tercet up` makes a client certificate for root."""
    certificates = ensure_certificates(tmp_path / "certificates", ["n1"])
    cluster = plan(["n1"], DEBUG, certificates=certificates).start()
    member = cluster.members[0]
    set_up(cluster.members, root_password=False)
    run([member], "put", "b", "v")
    assert run([member], "user", "list").split() == ["ann", "root"]
    check_denied(member, "put", "b", "v", user="ann")
    login = rpc_pb2.AuthenticateRequest(name="root", password="any")
    with pytest.raises(grpc.RpcError, match="password was given for no password user"):
        member.client.call("Auth/Authenticate", login, rpc_pb2.AuthenticateResponse, scaled(10))


def test_json_web_tokens_are_valid_over_a_restart_until_users_change(plan: Planned, tmp_path: Path) -> None:
    key = tmp_path / "jwt.key"
    command = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    cluster = plan(["n1"], (*DEBUG, f"--auth-token=jwt,sign-method=ES256,priv-key={key},ttl=1h")).start()
    member = cluster.members[0]
    set_up(cluster.members)
    token = authenticate(member.client, "ann")
    assert token.count(".") == 2

    def put() -> None:
        method = member.client.channel.unary_unary("/etcdserverpb.KV/Put")
        body = rpc_pb2.PutRequest(key=b"a").SerializeToString()
        method(body, timeout=scaled(10), metadata=[("authorization", f"Bearer {token}")])

    put()
    member.kill()
    member.restart()
    put()
    run([member], "role", "add", "other", user="root")
    with pytest.raises(grpc.RpcError) as refused:
        put()
    assert refused.value.details() == errors.AUTH_OLD_REVISION.message
    assert token not in member.log.read_text()


def test_a_follower_promotes_a_learner_as_the_client_that_asked(plan: Planned) -> None:
    """It forwards the request to the leader, with the client's token."""
    cluster = plan(["n1", "n2", "n3"], (*DEBUG, "--strict-reconfig-check=false"))
    first, second, learner = cluster.members
    peers = [f"{member.name}=http://127.0.0.1:{member.peer_port}" for member in cluster.members]
    for member, known, state in ((first, 2, "new"), (second, 2, "new"), (learner, 3, "existing")):
        kept = [flag for flag in member.flags if not flag.startswith("--initial-cluster=")]
        member.flags = [*kept, "--initial-cluster=" + ",".join(peers[:known]), f"--initial-cluster-state={state}"]
    for member in (first, second):
        member.start()
    for member in (first, second):
        member.wait_ready()
    leader = cluster.leader()
    set_up([first, second])
    run([first], "member", "add", "n3", f"--peer-urls={peers[2].partition('=')[2]}", "--learner", user="root")
    learner.start()
    listed = run([first], "member", "list", user="root").splitlines()
    learner_id = next(line.split(",")[0] for line in listed if line.endswith("true"))
    follower = second if leader is first else first
    check_denied(follower, "member", "promote", learner_id, user="ann")
    check_denied(follower, "member", "promote", learner_id, user="", text=errors.USER_EMPTY.message)

    def promoted() -> bool:
        return "promoted in cluster" in ctl([follower], "member", "promote", learner_id, user="root").stdout

    wait_until(promoted, "the learner has caught up and is promoted")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("unknown", "auth: invalid auth options"),
        ("jwt", "auth: invalid auth options"),
        ("jwt,sign-method=RS256", "auth: missing key data"),
        ("jwt,sign-method=none", "auth: invalid auth options"),
        ("jwt,sign-method=RS256,priv-key=/nonexistent", "auth: invalid auth options"),
        ("jwt,sign-method=RS256,ttl=often", "auth: invalid auth options"),
        ("simple,ttl", "auth: invalid auth options"),
        ("jwt,ttl=1s,ttl=2s,sign-method=HS256", "auth: invalid auth options"),
    ],
)
def test_bad_token_options_end_the_start_with_etcds_text(plan: Planned, value: str, text: str) -> None:
    member = plan(["n1"]).members[0].start(f"--auth-token={value}")
    assert member.wait_exit() == 1
    assert text in member.reason()
