"""What `make bench` measures: the rows of its table, each with the ratio to etcd that tercet aims at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tercet.bench import requests
from tercet.bench.arena import Shape, Tls
from tercet.bench.load import Request

VALUE_BYTES = 256
KEYS = requests.Keys(space=10_000, size=16)
_STREAMS_PER_CONNECTION = 64
_PLAIN = Shape()


@dataclass(frozen=True)
class Workload:
    """One row of the table. aim: throughput relative to etcd's."""

    name: str
    in_flight: int
    path: str
    requests: Callable[[], Iterator[Request]]
    aim: float
    shape: Shape = _PLAIN

    @property
    def connections(self) -> int:
        return -(-self.in_flight // _STREAMS_PER_CONNECTION)


def _puts() -> Iterator[bytes]:
    return requests.puts(KEYS, VALUE_BYTES)


def _linearizable() -> Iterator[bytes]:
    return requests.ranges(KEYS, serializable=False)


def _serializable() -> Iterator[bytes]:
    return requests.ranges(KEYS, serializable=True)


def _compare_and_puts() -> Iterator[bytes]:
    return requests.compare_and_puts(KEYS, VALUE_BYTES)


def _mixed() -> Iterator[Request]:
    return requests.mixed(KEYS, VALUE_BYTES)


def _renewals() -> Iterator[bytes]:
    return iter(())  # each stream makes its own: keepalives.py


_ONE = Shape(members=1)
_ONE_TLS = Shape(members=1, tls=Tls.CLIENTS)
_AUTH = Shape(auth=True)
_CLIENT_TLS = Shape(tls=Tls.CLIENTS)
_TLS_EVERYWHERE = Shape(tls=Tls.EVERYWHERE)
PUT, RANGE, TXN = requests.PUT_PATH, requests.RANGE_PATH, requests.TXN_PATH
GRANT, KEEPALIVE = requests.GRANT_PATH, requests.KEEPALIVE_PATH

WORKLOADS = (
    Workload("put, 1 in flight", 1, PUT, _puts, 1.3),
    Workload("put, 32 in flight", 32, PUT, _puts, 2.0),
    Workload("put, 256 in flight", 256, PUT, _puts, 2.0),
    Workload("linearizable read, 256 in flight", 256, RANGE, _linearizable, 1.3),
    Workload("serializable read, 256 in flight", 256, RANGE, _serializable, 1.3),
    Workload("compare and put, 256 in flight", 256, TXN, _compare_and_puts, 2.0),
    Workload("90 % reads, 10 % puts, 256 in flight", 256, RANGE, _mixed, 2.0),
    Workload("lease renewal, 256 streams", 256, KEEPALIVE, _renewals, 2.0),
    Workload("lease grant and revoke, 64 in flight", 64, GRANT, requests.grants_and_revokes, 2.0),
    Workload("put, 256 in flight, logged in", 256, PUT, _puts, 2.0, _AUTH),
    Workload("linearizable read, 256 in flight, logged in", 256, RANGE, _linearizable, 1.3, _AUTH),
    Workload("put, 256 in flight, TLS", 256, PUT, _puts, 4.0, _CLIENT_TLS),
    Workload("linearizable read, 256 in flight, TLS", 256, RANGE, _linearizable, 4.0, _CLIENT_TLS),
    Workload("put, 256 in flight, TLS between peers too", 256, PUT, _puts, 4.5, _TLS_EVERYWHERE),
    Workload("linearizable read, 256, TLS between peers too", 256, RANGE, _linearizable, 5.0, _TLS_EVERYWHERE),
    Workload("serializable read, 256, TLS between peers too", 256, RANGE, _serializable, 5.0, _TLS_EVERYWHERE),
    Workload("one member: put, 1 in flight", 1, PUT, _puts, 1.3, _ONE),
    Workload("one member: put, 4 in flight", 4, PUT, _puts, 1.3, _ONE),
    Workload("one member: put, 32 in flight", 32, PUT, _puts, 1.3, _ONE),
    Workload("one member: put, 256 in flight", 256, PUT, _puts, 1.3, _ONE),
    Workload("one member: linearizable read, 1 in flight", 1, RANGE, _linearizable, 1.3, _ONE),
    Workload("one member: linearizable read, 256 in flight", 256, RANGE, _linearizable, 1.3, _ONE),
    Workload("one member: put, 1 in flight, TLS", 1, PUT, _puts, 1.3, _ONE_TLS),
    Workload("one member: put, 4 in flight, TLS", 4, PUT, _puts, 1.3, _ONE_TLS),
    Workload("one member: put, 32 in flight, TLS", 32, PUT, _puts, 1.3, _ONE_TLS),
    Workload("one member: put, 256 in flight, TLS", 256, PUT, _puts, 1.3, _ONE_TLS),
    Workload("one member: linearizable read, 1 in flight, TLS", 1, RANGE, _linearizable, 1.3, _ONE_TLS),
    Workload("one member: linearizable read, 256 in flight, TLS", 256, RANGE, _linearizable, 1.3, _ONE_TLS),
)
