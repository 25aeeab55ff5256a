"""A client that writes continuously and records the acknowledged writes.

    python -m tests.hosts.writer     # endpoints and certificates from ETCDCTL_*, like etcdctl; exits when stdin is closed

It uses grpcio, not our own client, and puts one new key after another to one member until that member fails, then to the next.
An acknowledgement is a line on stdout (`key revision milliseconds-since-start`); an unacknowledged write is never repeated.
`writing` runs it during a block of a test; `Written.lost` then checks every member.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from tercet.proto import rpc_pb2
from tests.hosts.network import ALL_HOSTS
from tests.hosts.session import Operator

CALL_SECONDS_MAX = 1.0
_LOSES_AN_ENTRY_WHEN_KILLED = ("3.5.0", "3.5.1", "3.5.2")


@dataclass
class Written:
    """What was acknowledged: key -> revision; and when, in seconds since the writer started."""

    prefix: str
    acknowledged: dict[str, int] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def longest_gap_seconds(self) -> float:
        return max((later - earlier for earlier, later in itertools.pairwise(self.times)), default=0.0)

    def lost(self, operator: Operator, env: Mapping[str, str]) -> list[str]:
        """Acknowledged keys missing on any member, with the acknowledged revision and value.

        etcd 3.5.0 to 3.5.2 can store the index of an entry before its effect. Killed between, a member never applies the
        entry, and stays behind by a revision (etcd #13766). While another member has every write, that is shown, not counted.
        """
        missing = {host: self._missing_at(operator, env, host) for host in operator.statuses(env)}
        if not all(missing.values()):
            for host, status in operator.statuses(env).items():
                if missing[host] and status["version"] in _LOSES_AN_ENTRY_WHEN_KILLED:
                    operator.show(f"  etcd #13766 on {host}, {len(missing[host])} keys differ: {missing[host][0]}")
                    missing[host] = []
        return [line for lines in missing.values() for line in lines]

    def _missing_at(self, operator: Operator, env: Mapping[str, str], host: str) -> list[str]:
        quiet = Operator(operator.lab, operator.directory, lambda text: None)
        alone = {**env, "ETCDCTL_ENDPOINTS": f"https://{ALL_HOSTS[host]}:2379"}
        operator.etcdctl("get", "x", env=alone)  # linearizable: it has caught up after this
        said = quiet.etcdctl("get", "--prefix", self.prefix, "--consistency=s", "--write-out=json", env=alone)
        found = {
            base64.b64decode(kv["key"]).decode(): (kv["mod_revision"], base64.b64decode(kv["value"]).decode())
            for kv in json.loads(said.output).get("kvs", [])
        }
        return [
            f"{key} at {host}: {found.get(key)}, acknowledged at revision {revision}"
            for key, revision in self.acknowledged.items()
            if found.get(key) != (revision, f"value of {key}")
        ]


@contextlib.contextmanager
def writing(operator: Operator, env: Mapping[str, str], *, beyond: float = 2.0) -> Iterator[Written]:
    """Write while the block runs and until there were acknowledged writes after it, for `beyond` seconds."""
    written = Written(f"written/{time.time_ns()}/")
    with operator.start(sys.executable, "-m", "tests.hosts.writer", written.prefix, env=env) as process:
        reader = threading.Thread(target=_note, args=(process, written), daemon=True)
        reader.start()
        _wait_for_more(written, process)
        yield written
        _wait_for_more(written, process)
        time.sleep(beyond)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
        reader.join(60)
    operator.show(
        f"  writer: {len(written.acknowledged)} writes acknowledged, {len(written.failures)} failed, "
        f"longest pause {written.longest_gap_seconds:.2f} s"
    )


def _note(process: subprocess.Popen[str], written: Written) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        match line.split():
            case [key, revision, milliseconds] if revision.isdecimal():
                written.times.append(int(milliseconds) / 1000)
                written.acknowledged[key] = int(revision)
            case _:
                written.failures.append(line.strip())


def _wait_for_more(written: Written, process: subprocess.Popen[str], seconds: float = 90) -> None:
    goal, deadline = len(written.acknowledged) + 5, time.monotonic() + seconds
    while len(written.acknowledged) < goal:
        assert process.poll() is None, f"the writer ended: {written.failures[-10:]}"
        assert time.monotonic() < deadline, f"no write was acknowledged: {written.failures[-3:]}"
        time.sleep(0.05)


def main(prefix: str) -> None:
    """Write until stdin is closed."""
    credentials = grpc.ssl_channel_credentials(
        *(Path(os.environ[name]).read_bytes() for name in ("ETCDCTL_CACERT", "ETCDCTL_KEY", "ETCDCTL_CERT"))
    )
    endpoints = [endpoint.split("//")[-1] for endpoint in os.environ["ETCDCTL_ENDPOINTS"].split(",")]
    options = [("grpc.max_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 100)]
    channels = itertools.cycle([grpc.secure_channel(endpoint, credentials, options) for endpoint in endpoints])
    stopping = threading.Event()
    threading.Thread(target=_stop_at_end_of_input, args=(stopping,), daemon=True).start()
    started = time.monotonic()
    put = _put_at(next(channels))
    for number in itertools.count():
        if stopping.is_set():
            return
        key = f"{prefix}{number:08d}"
        try:
            answer = put(rpc_pb2.PutRequest(key=key.encode(), value=f"value of {key}".encode()), timeout=CALL_SECONDS_MAX)
        except grpc.RpcError as error:
            print(f"failed {key} {error.code()} {error.details()}", flush=True)
            put = _put_at(next(channels))
            time.sleep(0.02)
        else:
            print(f"{key} {answer.header.revision} {int((time.monotonic() - started) * 1000)}", flush=True)


def _stop_at_end_of_input(stopping: threading.Event) -> None:
    sys.stdin.read()
    stopping.set()


def _put_at(channel: grpc.Channel) -> grpc.UnaryUnaryMultiCallable:
    return channel.unary_unary(
        "/etcdserverpb.KV/Put",
        request_serializer=rpc_pb2.PutRequest.SerializeToString,
        response_deserializer=rpc_pb2.PutResponse.FromString,
    )


if __name__ == "__main__":
    main(sys.argv[1])
