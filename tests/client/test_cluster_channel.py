"""The client: failover between endpoints, retries of reads but not of writes, etcd's errors, auth, TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from tercet.client import AuthenticationError, ClusterChannel, Limits, TLSFiles, check_health, parse_endpoint
from tercet.errors import Code, ConfigError, StatusError
from tercet.pki import ensure_certificates
from tercet.proto import rpc_pb2
from tercet.rpc import Server, ServerStream, UnaryCall, server_stream, unary
from tests.client.member import Answer, member, run
from tests.support.ports import free_port
from tests.support.waiting import scaled

RANGE, PUT = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put"
ALARM, AUTHENTICATE = "/etcdserverpb.Maintenance/Alarm", "/etcdserverpb.Auth/Authenticate"
GET_A, PUT_A = rpc_pb2.RangeRequest(key=b"a"), rpc_pb2.PutRequest(key=b"a", value=b"1")


def found(call: UnaryCall, _: bytes) -> None:
    call.reply(rpc_pb2.RangeResponse(count=1).SerializeToString())


def done(call: UnaryCall, _: bytes) -> None:
    call.reply(rpc_pb2.PutResponse(header={"revision": 5}).SerializeToString())


def fail(code: Code, text: str) -> Answer:
    return lambda call, _: call.fail(code, text)


def silent(call: UnaryCall, _: bytes) -> None:
    """Never answers."""


NO_LEADER = fail(Code.UNAVAILABLE, "etcdserver: no leader")


def unused_endpoint() -> str:
    return f"127.0.0.1:{free_port()}"


class TestFailover:
    def test_the_next_endpoint_is_used_when_one_is_down(self) -> None:
        async def test() -> None:
            async with member({PUT: done, RANGE: found}) as up:
                async with ClusterChannel([unused_endpoint(), up.endpoint]) as client:
                    assert (await client.kv.put(PUT_A)).header.revision == 5
                    assert (await client.kv.range(GET_A)).count == 1
                assert up.asked == ["Put", "Range"]

        run(test())

    def test_a_read_goes_to_the_next_member(self) -> None:
        async def test() -> None:
            async with member({RANGE: NO_LEADER}) as cut_off, member({RANGE: found}) as up:
                async with ClusterChannel([cut_off.endpoint, up.endpoint]) as client:
                    assert (await client.kv.range(GET_A)).count == 1
                    assert (await client.kv.range(GET_A)).count == 1
                assert (cut_off.asked, up.asked) == (["Range"], ["Range", "Range"])

        run(test())

    def test_a_write_is_never_sent_twice(self) -> None:
        """The first member may have processed it although it answered UNAVAILABLE."""

        async def test() -> None:
            async with member({PUT: NO_LEADER}) as cut_off, member({PUT: done}) as up:
                async with ClusterChannel([cut_off.endpoint, up.endpoint]) as client:
                    with pytest.raises(StatusError, match="etcdserver: no leader"):
                        await client.kv.put(PUT_A)
                    assert (cut_off.asked, up.asked) == (["Put"], [])
                    await client.kv.put(PUT_A)
                assert (cut_off.asked, up.asked) == (["Put"], ["Put"])

        run(test())

    def test_a_write_is_not_retried_when_the_connection_breaks(self) -> None:
        async def test() -> None:
            def hang_up(call: UnaryCall, _: bytes) -> None:
                call.connection.abort()

            async with member({PUT: hang_up}) as breaking, member({PUT: done}) as up:
                async with ClusterChannel([breaking.endpoint, up.endpoint]) as client:
                    with pytest.raises(StatusError) as caught:
                        await client.kv.put(PUT_A)
                assert caught.value.code is Code.UNAVAILABLE
                assert (breaking.asked, up.asked) == (["Put"], [])

        run(test())

    def test_a_write_waits_for_a_member_to_start(self) -> None:
        """Without a connection nothing was sent, so a write may be retried."""

        async def test() -> None:
            endpoint = unused_endpoint()
            async with ClusterChannel([endpoint]) as client:
                put = asyncio.create_task(client.kv.put(PUT_A))
                await asyncio.sleep(0.2)
                async with member({PUT: done}, port=int(endpoint.partition(":")[2])):
                    assert (await put).header.revision == 5

        run(test())

    def test_calls_in_flight_survive_the_failure_of_another(self) -> None:
        async def test() -> None:
            waiting: list[UnaryCall] = []

            def hold(call: UnaryCall, _: bytes) -> None:
                waiting.append(call)

            async with (
                member({PUT: hold, RANGE: NO_LEADER}) as first,
                member({RANGE: found}) as second,
                ClusterChannel([first.endpoint, second.endpoint]) as client,
            ):
                put = asyncio.create_task(client.kv.put(PUT_A))
                while not waiting:
                    await asyncio.sleep(0.01)
                await client.kv.range(GET_A)
                done(waiting[0], b"")
                assert (await put).header.revision == 5

        run(test())


class TestTime:
    def test_unreachable_endpoints_fail_at_the_deadline(self) -> None:
        async def test() -> None:
            reports: list[tuple[str, int, str]] = []
            endpoint = unused_endpoint()
            async with ClusterChannel(
                [endpoint],
                timeout=2.0,
                on_failure=lambda where, attempt, error: reports.append((where, attempt, error.message)),
            ) as client:
                with pytest.raises(StatusError, match="context deadline exceeded") as caught:
                    await client.kv.range(GET_A)
            assert caught.value.code is Code.DEADLINE_EXCEEDED
            assert [report[:2] for report in reports] == [(endpoint, 0)]
            assert "refused" in reports[0][2]

        run(test())

    def test_a_silent_member_fails_at_the_deadline(self) -> None:
        async def test() -> None:
            async with member({RANGE: silent}) as up, ClusterChannel([up.endpoint], timeout=2.0) as client:
                with pytest.raises(StatusError, match="context deadline exceeded"):
                    await client.kv.range(GET_A)
                assert up.asked == ["Range"]

        run(test())

    def test_reads_are_retried_with_pauses_until_they_succeed(self) -> None:
        async def test() -> None:
            began: list[float] = []

            def elect(call: UnaryCall, message: bytes) -> None:
                began.append(asyncio.get_running_loop().time())
                (found if len(began) == 4 else NO_LEADER)(call, message)

            async with member({RANGE: elect}) as up, ClusterChannel([up.endpoint], timeout=60) as client:
                assert (await client.kv.range(GET_A)).count == 1
            assert len(began) == 4
            assert began[-1] - began[0] > 0.05

        run(test())


def test_other_errors_are_not_retried() -> None:
    async def test() -> None:
        compacted = fail(Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
        async with member({RANGE: compacted}) as up, ClusterChannel([up.endpoint]) as client:
            with pytest.raises(StatusError) as caught:
                await client.kv.range(GET_A)
            assert caught.value.code is Code.OUT_OF_RANGE
            assert up.asked == ["Range"]

    run(test())


def test_large_requests_are_refused_before_they_are_sent() -> None:
    async def test() -> None:
        async with member({PUT: done}) as up, ClusterChannel([up.endpoint], limits=Limits(request_bytes_max=10)) as client:
            with pytest.raises(StatusError, match=r"trying to send message larger than max \(\d+ vs. 10\)"):
                await client.kv.put(rpc_pb2.PutRequest(key=b"a" * 20))
            assert up.asked == []

    run(test())


def test_the_parts_of_a_range_stream_are_merged() -> None:
    async def parts(stream: ServerStream) -> None:
        assert rpc_pb2.RangeRequest.FromString(await stream.receive_one()) == GET_A
        for key in (b"a", b"b"):
            part = rpc_pb2.RangeStreamResponse(range_response={"kvs": [{"key": key}]})
            await stream.send(part.SerializeToString())
        last = rpc_pb2.RangeStreamResponse(range_response={"header": {"revision": 9}, "kvs": [{"key": b"c"}], "count": 3})
        await stream.send(last.SerializeToString())

    async def test() -> None:
        async with (
            member({}, streams={"/etcdserverpb.KV/RangeStream": server_stream(parts)}) as up,
            ClusterChannel([up.endpoint]) as client,
        ):
            whole = await client.kv.range_stream(GET_A)
        assert [kv.key for kv in whole.kvs] == [b"a", b"b", b"c"]
        assert (whole.count, whole.header.revision) == (3, 9)

    run(test())


class Guard:
    """A member with auth enabled: tokens are t1, t2, ...; only the newest is valid."""

    def __init__(self) -> None:
        self.tokens = 0
        self.seen: list[str] = []

    def authenticate(self, call: UnaryCall, message: bytes) -> None:
        request = rpc_pb2.AuthenticateRequest.FromString(message)
        if (request.name, request.password) != ("root", "secret"):
            call.fail(Code.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password")
            return
        self.tokens += 1
        call.reply(rpc_pb2.AuthenticateResponse(token=f"t{self.tokens}").SerializeToString())

    def put(self, call: UnaryCall, message: bytes) -> None:
        token = b"".join(call.metadata.get("token", ())).decode()
        self.seen.append(token)
        if token == f"t{self.tokens}":
            done(call, message)
        else:
            call.fail(Code.UNAUTHENTICATED, "etcdserver: invalid auth token")


class TestAuth:
    def test_a_token_is_fetched_once_and_renewed_when_stale(self) -> None:
        async def test() -> None:
            guard = Guard()
            async with member({AUTHENTICATE: guard.authenticate, PUT: guard.put}) as up:
                async with ClusterChannel([up.endpoint], user="root", password="secret") as client:
                    await client.kv.put(PUT_A)
                    await client.kv.put(PUT_A)
                    guard.tokens = 7  # as after a restart of the members
                    await client.kv.put(PUT_A)
                assert guard.seen == ["t1", "t1", "t1", "t8"]
                assert up.asked == ["Authenticate", "Put", "Put", "Put", "Authenticate", "Put"]

        run(test())

    def test_many_calls_at_once_authenticate_once(self) -> None:
        async def test() -> None:
            guard = Guard()
            async with member({AUTHENTICATE: guard.authenticate, PUT: guard.put}) as up:
                async with ClusterChannel([up.endpoint], user="root", password="secret") as client:
                    await asyncio.gather(*(client.kv.put(PUT_A) for _ in range(5)))
                assert up.asked.count("Authenticate") == 1

        run(test())

    def test_a_wrong_password_raises_authentication_error(self) -> None:
        async def test() -> None:
            guard = Guard()
            async with member({AUTHENTICATE: guard.authenticate, PUT: guard.put}) as up:
                async with ClusterChannel([up.endpoint], user="root", password="wrong") as client:
                    with pytest.raises(AuthenticationError, match="authentication failed"):
                        await client.kv.put(PUT_A)
                assert up.asked == ["Authenticate"]

        run(test())

    def test_a_token_that_stays_invalid_is_an_error(self) -> None:
        async def test() -> None:
            guard = Guard()
            bad = fail(Code.UNAUTHENTICATED, "etcdserver: invalid auth token")
            async with member({AUTHENTICATE: guard.authenticate, PUT: bad}) as up:
                async with ClusterChannel([up.endpoint], user="root", password="secret") as client:
                    with pytest.raises(StatusError, match="invalid auth token"):
                        await client.kv.put(PUT_A)
                assert up.asked == ["Authenticate", "Put", "Authenticate", "Put"]

        run(test())

    def test_a_cluster_without_auth_is_used_without_a_token(self) -> None:
        async def test() -> None:
            off = fail(Code.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
            async with member({AUTHENTICATE: off, PUT: done}) as up:
                async with ClusterChannel([up.endpoint], user="root", password="secret") as client:
                    await client.kv.put(PUT_A)
                    await client.kv.put(PUT_A)
                assert up.asked == ["Authenticate", "Put", "Put"]

        run(test())

    def test_a_given_token_is_sent(self) -> None:
        async def test() -> None:
            guard = Guard()
            guard.tokens = 3
            async with member({PUT: guard.put}) as up, ClusterChannel([up.endpoint], token="t3") as client:
                await client.kv.put(PUT_A)

        run(test())
        with pytest.raises(ConfigError, match="the token"):
            ClusterChannel(["127.0.0.1:1"], token="a\nb")


class TestTLS:
    def test_mutual(self, tmp_path: Path) -> None:
        files = ensure_certificates(tmp_path, ["n1"])
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.ca))
        server.load_cert_chain(files.servers["n1"].certificate, files.servers["n1"].key)
        server.verify_mode = ssl.CERT_REQUIRED
        server.set_alpn_protocols(["h2"])
        mine = TLSFiles(str(files.ca), str(files.client.certificate), str(files.client.key))

        async def test() -> None:
            async with member({PUT: done}, tls=server) as up:
                for endpoint in (up.endpoint, f"https://{up.endpoint}", f"https://localhost:{up.port}"):
                    async with ClusterChannel([endpoint], tls=mine) as client:
                        assert (await client.kv.put(PUT_A)).header.revision == 5
                no_limit = Limits(dial_timeout_seconds=0)
                async with ClusterChannel([f"https://{up.endpoint}"], tls=mine, limits=no_limit) as client:
                    assert (await client.kv.put(PUT_A)).header.revision == 5, "0 is no limit of ours, as for etcd's clients"

        run(test())

    def test_an_untrusted_server_is_refused_at_once(self, tmp_path: Path) -> None:
        """Retrying would not help against a bad certificate."""
        files = ensure_certificates(tmp_path / "theirs", ["n1"])
        other = ensure_certificates(tmp_path / "ours", ["n1"])
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(files.servers["n1"].certificate, files.servers["n1"].key)
        server.set_alpn_protocols(["h2"])

        async def test(trusted: TLSFiles) -> None:
            async with (
                member({PUT: done}, tls=server) as up,
                ClusterChannel([f"https://{up.endpoint}"], tls=trusted, timeout=60) as client,
            ):
                await client.kv.put(PUT_A)

        with pytest.raises(StatusError, match="authentication handshake failed: ") as caught:
            run(test(TLSFiles(cacert=str(other.ca))))
        assert caught.value.code is Code.UNAVAILABLE
        for detail in ("server name 127.0.0.1", f"verified with {other.ca}", "this host's clock: 20"):
            assert detail in caught.value.message
        run(test(TLSFiles(insecure_skip_verify=True)))

    def test_unusable_files_are_refused(self, tmp_path: Path) -> None:
        files = ensure_certificates(tmp_path, ["n1"])
        client, server = files.client, files.servers["n1"]
        junk = tmp_path / "junk"
        junk.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n")
        cases = [
            (TLSFiles(cacert="/nonexistent"), "open /nonexistent: no such file or directory"),
            (TLSFiles(cert="/x"), r"KeyFile and CertFile must both be present\[key: , cert: /x\]"),
            (TLSFiles(cert=str(client.key), key=str(client.key)), "failed to find any PEM data in certificate input"),
            (TLSFiles(cert=str(client.certificate), key=str(client.certificate)), "failed to find any PEM data in key input"),
            (TLSFiles(cert=str(client.certificate), key=str(server.key)), "private key does not match public key"),
            (TLSFiles(cacert=str(junk)), "cannot read the certificates"),
            (TLSFiles(cert=str(junk), key=str(junk)), "tls: cannot use"),
        ]
        for given, text in cases:
            with pytest.raises(ConfigError, match=text):
                ClusterChannel(["127.0.0.1:1"], tls=given)


class TestHealth:
    @pytest.mark.parametrize(
        ("answer", "alarms", "healthy", "error"),
        [
            (found, [], True, ""),
            (fail(Code.PERMISSION_DENIED, "etcdserver: permission denied"), [], True, ""),
            (fail(Code.UNKNOWN, "etcdserver: broken"), [], False, "etcdserver: broken"),
            (found, [rpc_pb2.NOSPACE, rpc_pb2.CORRUPT], False, "Active Alarm(s): NOSPACE CORRUPT "),
            (found, None, False, "Unable to fetch the alarm list"),
        ],
    )
    def test_health(self, answer: Answer, alarms: Sequence[int] | None, healthy: bool, error: str) -> None:
        def tell(call: UnaryCall, _: bytes) -> None:
            if alarms is None:
                call.fail(Code.UNKNOWN, "no")
                return
            response = rpc_pb2.AlarmResponse()
            for alarm in alarms:
                response.alarms.add(memberID=1).MergeFromString(bytes([0x10, alarm]))
            call.reply(response.SerializeToString())

        async def test() -> None:
            async with member({RANGE: answer, ALARM: tell}) as up, ClusterChannel([up.endpoint]) as client:
                health = await check_health(client)
            assert (health.is_healthy, health.error) == (healthy, error)
            assert 0 < health.took_nanoseconds < scaled(5) * 10**9

        run(test())


@pytest.mark.parametrize(
    ("text", "host", "port", "secure"),
    [
        ("127.0.0.1:2379", "127.0.0.1", 2379, None),
        ("http://db:1", "db", 1, False),
        ("https://[::1]:2379", "::1", 2379, True),
        ("[fe80::1]:2379", "fe80::1", 2379, None),
        (":2379", "localhost", 2379, None),
        ("http://:2379", "localhost", 2379, False),
    ],
)
def test_endpoints(text: str, host: str, port: int, secure: bool | None) -> None:
    endpoint = parse_endpoint(text)
    assert (endpoint.host, endpoint.port, endpoint.secure) == (host, port, secure)


@pytest.mark.parametrize("text", ["", "db", "http://", "unix:", "unixs://", "ftp://a:1", "db:port", "db:99999", "[::1"])
def test_bad_endpoints(text: str) -> None:
    with pytest.raises(ConfigError, match="endpoint "):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "host", "authority"),
    [
        ("unix:localhost:2379", "localhost", "localhost:2379"),
        ("unixs://127.0.0.1:2379", "127.0.0.1", "127.0.0.1:2379"),
        ("unixs:///run/db1:2379", "db1", "db1:2379"),
        ("unix:///run/my etcd.sock", "localhost", "my%20etcd.sock"),
        ("http://db:1", "db", None),
    ],
)
def test_names_of_a_unix_socket(text: str, host: str, authority: str | None) -> None:
    """`host` is what the certificate must name; `authority` is what requests name."""
    endpoint = parse_endpoint(text)
    assert (endpoint.host, endpoint.authority) == (host, authority)


@pytest.mark.parametrize("form", ["unix://{}", "unix:{}"])
@pytest.mark.parametrize("name", ["127.0.0.1:2379", "s.sock"])
def test_unix_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, name: str) -> None:
    """`unix://host:port` names a file, as in etcd, and the file's name is the authority of requests."""
    monkeypatch.chdir(tmp_path)
    authorities: list[bytes] = []

    def note(call: UnaryCall, request: bytes) -> None:
        authorities.extend(value for name, value in call.headers if name == b":authority")
        done(call, request)

    async def test() -> None:
        server = Server({PUT: unary(note)})
        listener = await asyncio.get_running_loop().create_unix_server(server.protocol, name)
        async with ClusterChannel([form.format(name)]) as client:
            await client.kv.put(rpc_pb2.PutRequest(key=b"k"))
        listener.close()
        server.close()
        assert authorities == [name.encode()]

    run(test())


@pytest.mark.parametrize(
    ("tls", "begin", "end"),
    [
        (TLSFiles(insecure_skip_verify=True), "the server closed the connection during the TLS handshake", "a plain HTTP"),
        (None, "error reading from server: ", "a TLS"),
    ],
)
def test_the_wrong_kind_of_port_is_named(tls: TLSFiles | None, begin: str, end: str) -> None:
    async def test() -> None:
        def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        reasons: list[str] = []
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        endpoint = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

        def report(_: str, __: int, error: StatusError) -> None:
            reasons.append(error.message)

        async with ClusterChannel([endpoint], tls=tls, timeout=2.0, on_failure=report) as client:
            with pytest.raises(StatusError, match="context deadline exceeded"):
                await client.kv.put(rpc_pb2.PutRequest(key=b"k"))
        server.close()
        assert reasons[0].startswith(begin)
        assert reasons[0].endswith(f" (is it {end} port?)")

    run(test())


def test_no_endpoints() -> None:
    with pytest.raises(ConfigError, match="no endpoints"):
        ClusterChannel([])
