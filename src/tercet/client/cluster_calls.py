"""Membership: the Cluster service as `client.cluster`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tercet.client import methods
from tercet.client.invoker import Invoker, Seconds
from tercet.proto import rpc_pb2


@dataclass(frozen=True, slots=True)
class Member:
    """name: empty until the member has started for the first time."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool
    raw: rpc_pb2.Member = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: rpc_pb2.Member) -> Member:
        return cls(raw.ID, raw.name, tuple(raw.peerURLs), tuple(raw.clientURLs), raw.isLearner, raw)


def _members(raw: Iterable[rpc_pb2.Member]) -> tuple[Member, ...]:
    return tuple(map(Member.of, raw))


class ClusterCalls:
    """Every method raises TercetError, those that change something Indeterminate too."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker

    async def list_members(self, *, serializable: bool = False, timeout: Seconds = ...) -> tuple[Member, ...]:
        """serializable: as one member knows them, without a quorum."""
        request = rpc_pb2.MemberListRequest(linearizable=not serializable)
        return _members((await self._invoker.call(methods.MEMBER_LIST, request, timeout=timeout)).members)

    async def add_member(self, peer_urls: Sequence[str], *, is_learner: bool = False, timeout: Seconds = ...) -> Member:
        """Add a member that is started afterwards. Raises AlreadyExists for peer URLs that a member has."""
        request = rpc_pb2.MemberAddRequest(peerURLs=peer_urls, isLearner=is_learner)
        return Member.of((await self._invoker.call(methods.MEMBER_ADD, request, timeout=timeout)).member)

    async def remove_member(self, id: int, *, timeout: Seconds = ...) -> tuple[Member, ...]:
        """Returns the remaining ones. Raises NotFound."""
        request = rpc_pb2.MemberRemoveRequest(ID=id)
        return _members((await self._invoker.call(methods.MEMBER_REMOVE, request, timeout=timeout)).members)

    async def update_member(self, id: int, peer_urls: Sequence[str], *, timeout: Seconds = ...) -> tuple[Member, ...]:
        """Raises NotFound."""
        request = rpc_pb2.MemberUpdateRequest(ID=id, peerURLs=peer_urls)
        return _members((await self._invoker.call(methods.MEMBER_UPDATE, request, timeout=timeout)).members)

    async def promote_member(self, id: int, *, timeout: Seconds = ...) -> tuple[Member, ...]:
        """Make a learner a voting member. Raises FailedPrecondition while it is too far behind."""
        request = rpc_pb2.MemberPromoteRequest(ID=id)
        return _members((await self._invoker.call(methods.MEMBER_PROMOTE, request, timeout=timeout)).members)
