"""The KV service: Range, RangeStream, Put, DeleteRange, Txn, Compact.

Each method decodes, checks what needs no state (mvcc/check.py, mvcc/txn_check.py, in etcd's order), and passes on: a write to
the log, a read to the read index or, if serializable, to the store. What is large is done in slices (scheduler.py). Responses
are pasted from encoded parts.
Source: etcd server/etcdserver/api/v3rpc/key.go and v3_server.go.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from tercet import errors
from tercet.auth import NOBODY, Identity, is_empty
from tercet.errors import CorruptRecord, InvariantViolation, RequestError, StatusError, StorageFailure, Unavailable
from tercet.intake import intake_of_running_loop
from tercet.mvcc import Answer, SmallRange, SmallRequest, Steps, TxnCheck, read_small_put, read_small_range, read_small_txn
from tercet.mvcc.check import check_delete, check_put, check_range, check_range_stream
from tercet.proto import rpc_pb2
from tercet.replica.empty_ranges import TreeGrowth
from tercet.replica.proposals import Outcome
from tercet.replica.quota import KEY_OVERHEAD_BYTES, put_cost
from tercet.replica.replica import Replica
from tercet.replica.requests import WHOLE_BYTES_MAX, canonical_encoding, put_proposal
from tercet.replica.txn_parser import TxnParser
from tercet.replica.txn_permissions import TxnPermissions
from tercet.rpc import Handler, ServerStream, UnaryCall, malformed_request, server_stream, unary, unmarshal_streamed
from tercet.services.authorization import Authorization
from tercet.services.awaitables import read_index
from tercet.services.deep_txn import encode_txn, parse_txn
from tercet.services.headers import Headers
from tercet.services.read_timing import ReadDurations, ReadTiming
from tercet.services.scheduler import Done, Scheduler

_SMALL_BYTES: Final = 4 << 10  # smaller answers are not counted: their number in a turn is bounded
_SEARCH_SHIFT: Final = 3  # one unit of intake.py for 8 of mvcc/work.py, which a check spends that searches many roles


class KvService:
    """etcdserverpb.KV on one member."""

    def __init__(
        self,
        replica: Replica,
        headers: Headers,
        scheduler: Scheduler,
        authorization: Authorization,
        *,
        txn_ops_max: int,
        request_bytes_max: int,
    ) -> None:
        self._replica = replica
        self._auth = authorization.auth
        self._authorization = authorization
        self._headers = headers
        self._scheduler = scheduler
        self._txn_ops_max = txn_ops_max
        self._chunk_bytes = request_bytes_max
        self.durations = ReadDurations()

    def handlers(self) -> dict[str, Handler]:
        return {
            "/etcdserverpb.KV/Range": unary(self.range),
            "/etcdserverpb.KV/RangeStream": server_stream(self.range_stream),
            "/etcdserverpb.KV/Put": unary(self.put),
            "/etcdserverpb.KV/DeleteRange": unary(self.delete_range),
            "/etcdserverpb.KV/Txn": unary(self.txn),
            "/etcdserverpb.KV/Compact": unary(self.compact),
        }

    # --- writes

    def put(self, call: UnaryCall, body: bytes) -> None:
        try:
            small = read_small_put(body)
            if small is not None:
                self._propose_small("put", call, small, small.cost(KEY_OVERHEAD_BYTES))
                return
            request = rpc_pb2.PutRequest.FromString(body)
            self._check_space(put_cost(request))
            check_put(request)
            identity = self._authorization.identify(call)
            self._replica.propose("put", put_proposal(body, request), request, partial(self._written, call), identity)
        except (DecodeError, RequestError, Unavailable) as error:
            refuse(call, error)

    def _propose_small(self, field: str, call: UnaryCall, small: SmallRequest, cost_bytes: int) -> None:
        self._check_space(cost_bytes)
        identity = self._authorization.identify(call) if self._auth.is_enabled else NOBODY
        self._replica.propose(field, small.body, small, partial(self._written, call), identity)

    def _check_space(self, cost_bytes: int) -> None:
        """Raises NO_SPACE, and has the alarm raised, if the quota does not allow the request."""
        if not self._replica.quota.allows(cost_bytes):
            self._replica.alarm_proposals.raise_no_space()
            raise errors.NO_SPACE

    def delete_range(self, call: UnaryCall, body: bytes) -> None:
        try:
            request = rpc_pb2.DeleteRangeRequest.FromString(body)
            check_delete(request)
            identity = self._authorization.identify(call)
            self._replica.propose("delete_range", canonical_encoding(request), request, partial(self._written, call), identity)
        except (DecodeError, RequestError, Unavailable) as error:
            refuse(call, error)

    def txn(self, call: UnaryCall, body: bytes) -> None:
        try:
            small = read_small_txn(body)
            if small is not None and small.longest <= self._txn_ops_max:
                self._propose_small("txn", call, small, small.cost(KEY_OVERHEAD_BYTES))
                return
            if len(body) <= WHOLE_BYTES_MAX:
                self._check_txn(call, parse_txn(body, self._txn_ops_max), None)
                return
            parser = TxnParser(body, depth_max=self._txn_ops_max)
            self._schedule(call, parser, partial(self._parsed_txn, call, parser))
        except (DecodeError, RequestError, Unavailable) as error:
            refuse(call, error)

    def _parsed_txn(self, call: UnaryCall, parser: TxnParser, error: Exception | None) -> None:
        if error is not None:
            refuse(call, error)
        else:
            self._check_txn(call, parser.request, parser)

    def _check_txn(self, call: UnaryCall, request: rpc_pb2.TxnRequest, parser: TxnParser | None) -> None:
        check = TxnCheck(request, self._txn_ops_max, put_cost=KEY_OVERHEAD_BYTES)
        then = partial(self._checked_txn, call, request, parser, check)
        if self._scheduler.begin(check):
            then(None)
        else:
            self._schedule(call, check, then)

    def _checked_txn(
        self, call: UnaryCall, request: rpc_pb2.TxnRequest, parser: TxnParser | None, check: TxnCheck, error: Exception | None
    ) -> None:
        """parser: of a large request; it has the encoding, too."""
        try:
            if error is not None:
                raise error
            self._check_space(check.cost)
            if check.fault is not None:
                raise check.fault
            if check.is_read_only:
                timing = self.durations.begin("ReadonlyTxn")
                if check.is_serializable:
                    self._read_txn(call, request, timing, None)
                else:
                    self._replica.read(partial(self._read_txn, call, request, timing))
            else:
                identity = self._authorization.identify(call)
                encoded = encode_txn(request) if parser is None else b"".join(parser.parts)
                self._replica.propose("txn", encoded, request, partial(self._written, call), identity)
        except (RequestError, Unavailable) as refusal:
            refuse(call, refusal)

    def compact(self, call: UnaryCall, body: bytes) -> None:
        try:
            request = rpc_pb2.CompactionRequest.FromString(body)
            self._authorization.require_admin(call)
            then = self._compacted if request.physical else self._written
            self._replica.propose("compaction", canonical_encoding(request), request, partial(then, call))
        except (DecodeError, RequestError, Unavailable) as error:
            refuse(call, error)

    def _written(self, call: UnaryCall, outcome: Outcome) -> None:
        if isinstance(outcome, bytes):
            call.reply(self._headers.current() + outcome)
        elif isinstance(outcome, Answer):
            self._answer(call, outcome)
        else:
            call.fail(outcome.code, outcome.message)

    def _compacted(self, call: UnaryCall, outcome: Outcome) -> None:
        """With `physical`: answer when the compacted revisions are removed, durably."""
        self._replica.compaction.when_finished(partial(self._written, call, outcome))

    # --- reads

    def range(self, call: UnaryCall, body: bytes) -> None:
        small = read_small_range(body)
        if small is not None:
            self._begin_range(call, small, small.is_serializable)
            return
        try:
            request = rpc_pb2.RangeRequest.FromString(body)
            check_range(request)
        except (DecodeError, RequestError) as error:
            refuse(call, error)
            return
        self._begin_range(call, request, request.serializable)

    def _begin_range(self, call: UnaryCall, request: rpc_pb2.RangeRequest | SmallRange, is_serializable: bool) -> None:
        timing = self.durations.begin("Range")
        if is_serializable:
            self._range(call, request, timing, None)
            if self._auth.is_enabled and (work := self._auth.take_search_work()):
                intake_of_running_loop().spend(work >> _SEARCH_SHIFT)
        else:
            self._replica.read(partial(self._range, call, request, timing))

    # A read waits for the read index; meanwhile an installed snapshot may replace the store. So the store is looked up only
    # when the read is answered (tests/mixed: a frozen leader wakes up).

    def _range(
        self,
        call: UnaryCall,
        request: rpc_pb2.RangeRequest | SmallRange,
        timing: ReadTiming | None,
        error: Exception | None,
    ) -> None:
        try:
            if error is not None:
                raise error
            if timing is not None:
                timing.reads()
            identity = NOBODY
            if self._auth.is_enabled:
                range_end = b"" if isinstance(request, SmallRange) else request.range_end
                if range_end and is_empty(request.key, range_end):
                    growth = TreeGrowth(self._auth, self._authorization.identify(call), request.key, range_end, reads=True)
                    if growth.is_needed:
                        self._schedule(call, growth, partial(self._range, call, request, timing))
                        return
                identity = self._authorization.check_read(call, request.key, range_end)
            answer = self._read_range(request)
            if isinstance(answer, bytes):
                call.reply(self._headers.current() + answer)
                if timing is not None:
                    timing.ended(is_success=True)
            else:
                self._answer(call, answer, identity, timing)
        except CorruptRecord as corrupt:
            _fail_read(call, timing, corrupt)
        except (InvariantViolation, StorageFailure):
            raise
        except Exception as refusal:
            # A read changes nothing: its failure concerns this client alone, and must not stop the member.
            _fail_read(call, timing, refusal)

    def _read_range(self, request: rpc_pb2.RangeRequest | SmallRange) -> bytes | Answer:
        """The response without header, or the steps that make it. Raises FUTURE_REVISION or COMPACTED."""
        store, scheduler = self._replica.store, self._scheduler
        at_once = scheduler.may_read_at_once
        if isinstance(request, SmallRange):
            answer = store.small_range(request, at_once=at_once)
        else:
            answer = store.range(request, at_once=at_once)
        if isinstance(answer, bytes):
            if len(answer) > _SMALL_BYTES:
                scheduler.read_at_once(len(answer))
        elif store.bytes_in_vain:
            scheduler.read_at_once(store.bytes_in_vain)
            store.bytes_in_vain = 0
        return answer

    def _read_txn(
        self, call: UnaryCall, request: rpc_pb2.TxnRequest, timing: ReadTiming | None, error: StatusError | None
    ) -> None:
        """Check the permissions, in slices, then read."""
        try:
            if error is not None:
                raise error
            identity = self._authorization.identify(call)
            permissions = TxnPermissions(self._auth, identity, request)
            is_permitted = not self._auth.is_enabled or self._scheduler.begin(permissions)
        except Exception as refusal:
            _fail_read(call, timing, refusal)
            return
        then = partial(self._read_permitted_txn, call, request, identity, timing)
        if is_permitted:
            then(None)
        else:
            self._schedule(call, permissions, then)

    def _read_permitted_txn(
        self,
        call: UnaryCall,
        request: rpc_pb2.TxnRequest,
        identity: Identity,
        timing: ReadTiming | None,
        error: Exception | None,
    ) -> None:
        try:
            if error is not None:
                raise error
            self._authorization.check_unchanged(identity)
            self._answer(call, self._replica.store.read_txn(request), identity, timing)
        except CorruptRecord as corrupt:
            _fail_read(call, timing, corrupt)
        except (InvariantViolation, StorageFailure):
            raise
        except Exception as refusal:
            _fail_read(call, timing, refusal)

    def _answer(self, call: UnaryCall, answer: Answer, identity: Identity = NOBODY, timing: ReadTiming | None = None) -> None:
        """Make the answer, now or in later turns, and reply. identity: whose permission to read was checked."""
        header = self._headers.current()
        if self._scheduler.try_now(answer):
            call.reply_parts([header, *answer.parts])
            if timing is not None:
                timing.ended(is_success=True)
            return
        self._schedule(call, answer, partial(self._finish, call, header, answer, identity, timing))

    def _schedule(self, call: UnaryCall, steps: Steps, then: Done) -> None:
        """Take the steps in later turns, unless the call ends before."""
        job = self._scheduler.start(steps, self._replica.store, then, is_backlogged=call.is_backlogged)
        if job is not None:
            call.on_cancel = partial(self._scheduler.cancel, job)

    def _finish(
        self,
        call: UnaryCall,
        header: bytes,
        answer: Answer,
        identity: Identity,
        timing: ReadTiming | None,
        error: Exception | None,
    ) -> None:
        """Reply with an answer that took several turns, if the permission to read it has not been revoked since."""
        if error is None and identity.revision and identity.revision != self._auth.revision:
            error = errors.AUTH_OLD_REVISION
        if error is not None:
            _fail_read(call, timing, error)
            return
        call.reply_parts([header, *answer.parts])
        if timing is not None:
            timing.ended(is_success=True)

    async def range_stream(self, stream: ServerStream) -> None:
        """KV.RangeStream (3.7): a Range in many messages, all read at one revision."""
        request = unmarshal_streamed(rpc_pb2.RangeRequest.FromString, await stream.receive_one())
        check_range_stream(request)
        if not request.serializable:
            await read_index(self._replica)
        while self._auth.is_enabled and is_empty(request.key, request.range_end):
            identity = self._authorization.identify(stream)
            growth = TreeGrowth(self._auth, identity, request.key, request.range_end, reads=True)
            if not growth.is_needed:
                break
            await self._scheduler.finish(growth, self._replica.store)
        identity = self._authorization.check_read(stream, request.key, request.range_end)
        store = self._replica.store
        messages = store.range_stream(request, header=self._headers.current(), bytes_max=self._chunk_bytes)
        while not messages.is_over:
            await stream.wait_until_read()
            messages.check_revision(store.compact_revision)
            await self._scheduler.finish(messages, store, is_backlogged=stream.is_backlogged)
            await stream.send_large(messages.message)
        self._authorization.check_unchanged(identity)


def _fail_read(call: UnaryCall, timing: ReadTiming | None, error: Exception) -> None:
    call.fail_with(error)
    if timing is not None:
        timing.ended(is_success=False)


def refuse(call: UnaryCall, error: Exception) -> None:
    """Fail the call with the status of `error`."""
    call.fail_with(malformed_request(error) if isinstance(error, DecodeError) else error)
