"""The Lease service's unary calls as methods of a client."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from tercet.client import methods
from tercet.client.errors import Indeterminate, LeaseExists, LeaseNotFound
from tercet.client.invoker import Invoker, Seconds
from tercet.client.key_space import KeySpace
from tercet.client.operations import LeaseRef, lease_id
from tercet.client.results import Header
from tercet.client.retry import Attempts, Retry
from tercet.errors import LEASE_EXISTS, LEASE_NOT_FOUND
from tercet.proto import rpc_pb2


@dataclass(frozen=True, slots=True)
class LeaseInfo:
    """ttl_seconds: until it expires; granted_ttl_seconds: of each renewal; keys: those attached, if asked for."""

    header: Header
    id: int
    ttl_seconds: int
    granted_ttl_seconds: int
    keys: tuple[bytes, ...]
    raw: rpc_pb2.LeaseTimeToLiveResponse | rpc_pb2.LeaseGrantResponse = field(repr=False, compare=False)


class LeaseCalls:
    """Leases by their IDs."""

    _invoker: Invoker
    _keys: KeySpace

    async def grant_lease(
        self, ttl_seconds: int, *, id: int = 0, timeout: Seconds = ..., retry: Retry | None = None
    ) -> LeaseInfo:
        """A lease that nobody keeps alive. id: 0 for one that the client chooses, so that a lost answer leaks no lease.

        Raises LeaseExists if `id` was given and exists.
        """
        request = rpc_pb2.LeaseGrantRequest(TTL=ttl_seconds, ID=id or secrets.randbits(62) + 1)
        attempts = Attempts(retry or self._invoker.retry, is_repeatable=True)
        try:
            answer = await self._invoker.call(methods.LEASE_GRANT, request, timeout=timeout, attempts=attempts)
        except (LeaseExists, Indeterminate) as error:
            if id or not attempts.is_unknown or error.message != LEASE_EXISTS.message:
                raise
            return await self.lease_info(request.ID, timeout=timeout, retry=retry)  # granted by an attempt without an answer
        return LeaseInfo(Header.of(answer.header), answer.ID, answer.TTL, answer.TTL, (), answer)

    async def revoke_lease(self, lease: LeaseRef, *, timeout: Seconds = ..., retry: Retry | None = None) -> None:
        """End a lease and delete its keys. Raises LeaseNotFound."""
        request = rpc_pb2.LeaseRevokeRequest(ID=lease_id(lease))
        attempts = Attempts(retry or self._invoker.retry, is_repeatable=True)
        try:
            await self._invoker.call(methods.LEASE_REVOKE, request, timeout=timeout, attempts=attempts)
        except Indeterminate as error:
            if error.message != LEASE_NOT_FOUND.message:
                raise  # else an attempt without an answer has revoked it

    async def lease_info(
        self, lease: LeaseRef, *, keys: bool = False, timeout: Seconds = ..., retry: Retry | None = None
    ) -> LeaseInfo:
        """Raises LeaseNotFound. The keys are only those of the client's namespace."""
        request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id(lease), keys=keys)
        answer = await self._invoker.call(methods.LEASE_TIME_TO_LIVE, request, timeout=timeout, retry=retry)
        if answer.TTL < 0:
            raise LeaseNotFound(LEASE_NOT_FOUND.message, LEASE_NOT_FOUND.code)
        own = tuple(self._keys.strip(key) for key in answer.keys if key.startswith(self._keys.namespace))
        return LeaseInfo(Header.of(answer.header), answer.ID, answer.TTL, answer.grantedTTL, own, answer)

    async def list_leases(self, *, timeout: Seconds = ..., retry: Retry | None = None) -> tuple[int, ...]:
        """The IDs of all leases of the cluster."""
        answer = await self._invoker.call(methods.LEASE_LEASES, rpc_pb2.LeaseLeasesRequest(), timeout=timeout, retry=retry)
        return tuple(lease.ID for lease in answer.leases)
