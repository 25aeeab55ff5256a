"""Choice of the next operation of a client.

Half of the operations are reads and writes of single keys, `key-N`, whose history the linearizability checker judges by itself.
The others use the rest of the API, on keys `set-N`: ranges at old revisions, serializable reads, transactions of several
operations, also within each other, leases, deletes of a range. Those are checked with the model (model.py). With
authentication, requests about users and roles come between (auth_workload.py); root sends the first half, and users with fewer
permissions the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final

from tercet.proto import rpc_pb2
from tercet.sim.auth_model import ROOT
from tercet.sim.auth_workload import AuthWorkload
from tercet.sim.history import Kind, Operation
from tercet.sim.lease_rules import FIRST_EXPIRING

_KINDS: Final = [Kind.GET] * 8 + [Kind.PUT] * 7 + [Kind.CAS] * 3 + [Kind.DELETE] * 2 + [Kind.REQUEST] * 20
_SET_KEYS: Final = 6
SET_KEYS: Final = [b"set-%d" % number for number in range(_SET_KEYS)]
_KEEPS_CHANCE: Final = 0.1  # of a put: it keeps the key's value or lease, and fails where there is no key
_NESTED_CHANCE: Final = 0.35  # of a branch of a Txn: it holds another Txn
_LEVELS: Final = 3  # of Txns
_LARGE_CHANCE: Final = 0.06  # of a put in a Txn
_LARGE_BYTES: Final = 4500  # more than a follower parses of a Txn at once (replica/txn_parser.py)
_LEASES: Final = 3
SHORT_SECONDS: Final = 4
_EXPIRING: Final = range(FIRST_EXPIRING, FIRST_EXPIRING + 3)
_Compare = rpc_pb2.Compare
_Op = rpc_pb2.RequestOp


class Workload:
    """Draws operations. It remembers what replies have shown, so that comparisons succeed now and then."""

    def __init__(self, random: Random, *, keys: int, uses_auth: bool) -> None:
        self.keys = [b"key-%d" % number for number in range(keys)]
        self._random = random
        self._seen: dict[bytes, bytes | None] = dict.fromkeys(self.keys)
        self._revision = 1
        self._values = 0
        self._auth = AuthWorkload(random) if uses_auth else None

    def draw(self, client: int, now: int, *, reads_only: bool) -> Operation:
        random = self._random
        kind = Kind.GET if reads_only else random.choice(_KINDS)
        if kind is Kind.REQUEST:
            return self._request(client, now)
        key = random.choice(self.keys)
        operation = Operation(client, kind, key, now, username=ROOT)
        if kind in (Kind.PUT, Kind.CAS):
            operation.value = self._value()
        if kind is Kind.CAS:
            operation.expected = self._seen[key] if random.random() < 0.9 else None
        return operation

    def draw_put(self, client: int, now: int) -> Operation:
        """A put of a `set-N` key. With authentication root attaches some to leases, which users may not revoke then."""
        random, user, lease = self._random, ROOT, 0
        if self._auth is not None:
            user = random.choice((ROOT, "ann"))
            lease = self._some_lease() if user == ROOT and random.random() < 0.5 else 0
        returns_old = user != ROOT or random.random() < 0.5
        request = rpc_pb2.PutRequest(key=self._set_key(), value=self._value(), lease=lease, prev_kv=returns_old)
        return Operation(client, Kind.REQUEST, b"", now, request=request, username=user)

    def draw_deciding(self, client: int, now: int, key: bytes) -> Operation:
        """A write whose effect the current value of `key` decides: members read it as they apply the write."""
        random = self._random
        kept = rpc_pb2.PutRequest(key=key, ignore_value=True)
        kind = random.randrange(4)
        request: Any
        if kind == 0:
            request = kept
        elif kind == 1:
            request = rpc_pb2.PutRequest(key=key, value=self._value(), prev_kv=True)
        else:
            others = random.sample([one for one in SET_KEYS if one != key], 2)
            puts = [_Op(request_put=rpc_pb2.PutRequest(key=one, value=self._value())) for one in others]
            if kind == 2:
                result = random.choice((_Compare.EQUAL, _Compare.GREATER))
                compare = _Compare(key=key, target=_Compare.VALUE, result=result, value=b"")
                request = rpc_pb2.TxnRequest(compare=[compare], success=puts[:1], failure=puts[1:])
            else:
                request = rpc_pb2.TxnRequest(success=[puts[0], _Op(request_put=kept), puts[1]])
        return Operation(client, Kind.REQUEST, b"", now, request=request, username=ROOT)

    def draw_leased(self, now: int) -> Iterator[Operation]:
        """With authentication: root attaches a key to a lease, and a user revokes that, who may perhaps not write the key."""
        if self._auth is None:
            return
        lease = self._random.randint(1, _LEASES)
        for user, request in (
            (ROOT, rpc_pb2.LeaseGrantRequest(ID=lease, TTL=60)),
            (ROOT, rpc_pb2.PutRequest(key=self._set_key(), value=self._value(), lease=lease)),
            (self._random.choice(("ann", "bob")), rpc_pb2.LeaseRevokeRequest(ID=lease)),
        ):
            yield Operation(-1, Kind.REQUEST, b"", now, request=request, username=user)

    def draw_auth(self, client: int, now: int) -> Operation | None:
        """A request about users and roles, nearly always of root; None without authentication."""
        if self._auth is None:
            return None
        user = ROOT if self._random.random() < 0.95 else self._auth.caller()[0]
        return Operation(client, Kind.REQUEST, b"", now, request=self._auth.draw(), username=user)

    def replied(self, operation: Operation) -> None:
        """An operation was answered."""
        self._revision = max(self._revision, operation.revision)
        if self._auth is not None and operation.auth is not None:
            self._auth.seen(operation.auth)
        if operation.kind is Kind.GET:
            self._seen[operation.key] = operation.found
        elif operation.kind is not Kind.REQUEST and operation.took_effect:
            self._seen[operation.key] = operation.value

    def _value(self) -> bytes:
        """A value that no other operation puts. Some are longer than a sector, so that a power cut can tear them."""
        self._values += 1
        return b"%d" % self._values + b"." * self._random.choice((0, 0, 0, 1000))

    # --- requests

    def _request(self, client: int, now: int) -> Operation:
        random = self._random
        make = random.choice(
            (
                self._range,
                self._range,
                self._read_txn,
                self._txn,
                self._txn,
                self._put,
                self._put,
                self._delete,
                self._lease,
                self._lease,
            )
        )
        request, is_serializable = make()
        operation = Operation(client, Kind.REQUEST, b"", now, request=request, is_serializable=is_serializable)
        if self._auth is not None:
            operation.username, operation.token_revision = self._auth.caller()
        return operation

    def _range(self) -> tuple[Any, bool]:
        request = self._range_request()
        request.serializable = self._random.random() < 0.4
        return request, request.serializable

    def _read_txn(self) -> tuple[Any, bool]:
        request = rpc_pb2.TxnRequest(compare=[self._compare()])
        for branch in (request.success, request.failure):
            branch.extend(_Op(request_range=self._range_request()) for _ in range(self._random.randint(1, 2)))
        return request, False

    def _txn(self) -> tuple[Any, bool]:
        request = self._txn_on(SET_KEYS, levels=_LEVELS)
        if not request.success:
            request.success.append(self._write_op(self._set_key()))
        return request, False

    def _txn_on(self, keys: list[bytes], *, levels: int) -> rpc_pb2.TxnRequest:
        compares = [self._compare() for _ in range(self._random.randint(0, 2))]
        success, failure = (self._branch(keys, levels=levels) for _ in range(2))
        return rpc_pb2.TxnRequest(compare=compares, success=success, failure=failure)

    def _branch(self, keys: list[bytes], *, levels: int) -> list[rpc_pb2.RequestOp]:
        """Operations on some of `keys`, none of them twice, also not by Txns within: a revision holds one change of a key."""
        random = self._random
        shuffled = random.sample(keys, len(keys))
        count = min(random.randint(0, 3), len(keys))
        ops = [self._write_op(key) for key in shuffled[:count]]
        if levels > 1 and random.random() < _NESTED_CHANCE:
            nested = _Op(request_txn=self._txn_on(shuffled[count:], levels=levels - 1))
            ops.insert(random.randint(0, count), nested)
        return ops

    def _write_op(self, key: bytes) -> rpc_pb2.RequestOp:
        kind = self._random.randrange(4)
        if kind == 0:
            return _Op(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key))
        if kind == 1:
            return _Op(request_range=rpc_pb2.RangeRequest(key=b"set-", range_end=b"set."))
        lease = self._some_lease() if self._random.random() < 0.2 else 0
        put = rpc_pb2.PutRequest(key=key, value=self._value(), lease=lease, prev_kv=kind == 2)
        if self._random.random() < _LARGE_CHANCE:
            put.value += b"." * _LARGE_BYTES
        return _Op(request_put=self._perhaps_keeping(put))

    def _put(self) -> tuple[Any, bool]:
        random = self._random
        lease = self._some_lease() if random.random() < 0.3 else 0
        put = rpc_pb2.PutRequest(key=self._set_key(), value=self._value(), lease=lease, prev_kv=random.random() < 0.5)
        return self._perhaps_keeping(put), False

    def _perhaps_keeping(self, put: rpc_pb2.PutRequest) -> rpc_pb2.PutRequest:
        chance = self._random.random()
        if chance < _KEEPS_CHANCE / 2:
            put.value, put.ignore_value = b"", True
        elif chance < _KEEPS_CHANCE:
            put.lease, put.ignore_lease = 0, True
        return put

    def _some_lease(self) -> int:
        leases: tuple[int, ...] = (*range(1, _LEASES + 1), *_EXPIRING)
        return self._random.choice(leases)

    def _delete(self) -> tuple[Any, bool]:
        start, end = self._bounds()
        return rpc_pb2.DeleteRangeRequest(key=start, range_end=end, prev_kv=self._random.random() < 0.5), False

    def _lease(self) -> tuple[Any, bool]:
        """Grants and revokes. Leases from FIRST_EXPIRING on are short, and no client revokes them."""
        random = self._random
        if random.random() < 0.4:
            lease = random.randint(1, _LEASES)
            if random.random() < 0.6:
                return rpc_pb2.LeaseGrantRequest(ID=lease, TTL=60), False
            return rpc_pb2.LeaseRevokeRequest(ID=lease), False
        return rpc_pb2.LeaseGrantRequest(ID=random.choice(_EXPIRING), TTL=random.randint(2, SHORT_SECONDS)), False

    def _range_request(self) -> rpc_pb2.RangeRequest:
        random = self._random
        start, end = self._bounds() if random.random() < 0.7 else (self._set_key(), b"")
        request = rpc_pb2.RangeRequest(key=start, range_end=end)
        if random.random() < 0.4:
            request.revision = max(1, self._revision - random.randrange(12))
        option = random.randrange(6)
        if option == 0:
            request.limit = random.randint(1, 3)
        elif option == 1:
            request.count_only = True
        elif option == 2:
            request.keys_only = True
        return request

    def _compare(self) -> rpc_pb2.Compare:
        random = self._random
        compare = _Compare(key=self._set_key(), result=random.choice((_Compare.EQUAL, _Compare.GREATER, _Compare.LESS)))
        if random.random() < 0.2:
            compare.range_end = b"set."
        target = random.randrange(4)
        if target == 0:
            compare.target, compare.version = _Compare.VERSION, random.randint(0, 3)
        elif target == 1:
            compare.target, compare.create_revision = _Compare.CREATE, max(0, self._revision - random.randrange(20))
        elif target == 2:
            compare.target, compare.mod_revision = _Compare.MOD, max(0, self._revision - random.randrange(5))
        else:
            compare.target, compare.value = _Compare.VALUE, b"%d" % random.randint(0, self._values)
        return compare

    def _set_key(self) -> bytes:
        return b"set-%d" % self._random.randrange(_SET_KEYS)

    def _bounds(self) -> tuple[bytes, bytes]:
        first = self._random.randrange(_SET_KEYS)
        if self._random.random() < 0.3:
            return b"set-%d" % first, b"set."
        if self._auth is not None and self._random.random() < 0.3:
            return b"set-1", b"set-3"  # begins in one of two adjacent permissions and ends in the other
        least = first if self._auth is None else first + 1  # see auth_model.py
        return b"set-%d" % first, b"set-%d" % self._random.randint(least, _SET_KEYS)


def renewal(lease_id: int, now: int) -> Operation:
    """A renewal, of no client. A deposed leader may answer it for a while, with an old revision."""
    request = rpc_pb2.LeaseKeepAliveRequest(ID=lease_id)
    return Operation(-1, Kind.REQUEST, b"", now, request=request, is_serializable=True)
