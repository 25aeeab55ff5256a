"""The cluster's members (ids, peer URLs, names, client URLs, learners), the removed members, and the cluster version.

Changed only by applying log entries, so that all members agree at the same index. Stored in the backend's buckets `members`,
`members_removed` and `cluster` as etcd's JSON, and again in a snapshot's v2 JSON for members of 3.5 and 3.6.

Source: etcd server/etcdserver/api/membership. A change that does not fit is no error of the log: its entry has no effect,
raft's configuration stays, and the proposer gets the reason.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, cast

from tercet import errors
from tercet.errors import RequestError
from tercet.log_fields import fields
from tercet.raft.types import ConfChange, ConfChangeType
from tercet.replica import storage_version
from tercet.storage.interfaces import Backend, Bucket, ReadView

logger = logging.getLogger(__name__)

_CLUSTER_VERSION_KEY = b"clusterVersion"
_DOWNGRADE_KEY = b"downgrade"


class Member(NamedTuple):
    """One member. `name` and `client_urls` are empty until it has started and published them."""

    id: int
    peer_urls: tuple[str, ...]
    name: str = ""
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    @property
    def is_started(self) -> bool:
        return bool(self.name)

    def to_json(self) -> dict[str, Any]:
        """etcd's JSON: the id as a number, empty attributes omitted."""
        out: dict[str, Any] = {"id": self.id, "peerURLs": list(self.peer_urls)}
        if self.is_learner:
            out["isLearner"] = True
        if self.name:
            out["name"] = self.name
        if self.client_urls:
            out["clientURLs"] = list(self.client_urls)
        return out

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Member:
        """Raises ValueError if `raw` is not a member."""
        try:
            return cls(
                id=int(raw["id"]),
                peer_urls=tuple(raw.get("peerURLs") or ()),
                name=raw.get("name") or "",
                client_urls=tuple(raw.get("clientURLs") or ()),
                is_learner=bool(raw.get("isLearner")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a member: {raw!r}") from error


def hex_id(member_id: int) -> str:
    """A member id as etcd prints it: lower-case hex without padding."""
    return f"{member_id:x}"


def change_context(member: Member, *, is_promote: bool = False) -> bytes:
    """The context of a ConfChange: the member's JSON, with what the membership needs and raft does not."""
    raw = member.to_json()
    if is_promote:
        raw = {"id": member.id, "peerURLs": None, "isPromote": True}
    return json.dumps(raw, separators=(",", ":")).encode()


class Membership:
    """The cluster's members as of the last applied entry."""

    def __init__(self, backend: Backend | ReadView, *, max_learners: int = 1) -> None:
        """backend: a Membership over a ReadView is read-only."""
        self._source = backend
        self._max_learners = max_learners
        self.members: dict[int, Member] = {}
        self.removed: set[int] = set()
        self.cluster_version: str | None = None
        self.downgrade_target: str | None = None
        self._load()

    def _load(self) -> None:
        for _, value in self._source.scan(Bucket.MEMBERS):
            member = Member.from_json(json.loads(value))
            self.members[member.id] = member
        self.removed = {int(key, 16) for key, _ in self._source.scan(Bucket.MEMBERS_REMOVED)}
        version = self._source.get(Bucket.CLUSTER, _CLUSTER_VERSION_KEY)
        self.cluster_version = version.decode() if version else None
        downgrade = json.loads(self._source.get(Bucket.CLUSTER, _DOWNGRADE_KEY) or b"{}")
        if downgrade.get("enabled"):
            self.downgrade_target = downgrade.get("target-version") or None

    @property
    def _backend(self) -> Backend:
        return cast(Backend, self._source)

    # --- views

    def sorted(self) -> list[Member]:
        """All members by ascending id, the order of etcd's lists."""
        return [self.members[member_id] for member_id in sorted(self.members)]

    def voters(self) -> list[Member]:
        return [member for member in self.sorted() if not member.is_learner]

    def to_json(self) -> list[dict[str, Any]]:
        return [member.to_json() for member in self.sorted()]

    # --- changes, at apply

    def validate(self, change: ConfChange) -> RequestError | None:
        """Why `change` is refused, by the same rules in the same order on every member; None if it is valid."""
        member_id = change.node_id
        if member_id in self.removed:
            return errors.MEMBER_NOT_FOUND
        known = self.members.get(member_id)
        if change.type in (ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE):
            return self._validate_addition(change, known)
        if known is None:
            return errors.MEMBER_NOT_FOUND
        if change.type == ConfChangeType.UPDATE_NODE:
            return self._validate_urls(Member.from_json(json.loads(change.context)))
        return None

    def _validate_addition(self, change: ConfChange, known: Member | None) -> RequestError | None:
        raw = json.loads(change.context)
        if raw.get("isPromote"):
            if known is None:
                return errors.MEMBER_NOT_FOUND
            return None if known.is_learner else errors.LEARNER_ONLY
        if known is not None:
            return errors.MEMBER_EXISTS
        member = Member.from_json(raw)
        if (refusal := self._validate_urls(member)) is not None:
            return refusal
        learners = sum(one.is_learner for one in self.members.values())
        if change.type == ConfChangeType.ADD_LEARNER_NODE and learners + 1 > self._max_learners:
            return errors.TOO_MANY_LEARNERS
        return None

    def _validate_urls(self, member: Member) -> RequestError | None:
        taken = {url for one in self.members.values() if one.id != member.id for url in one.peer_urls}
        return errors.PEER_URL_EXISTS if taken.intersection(member.peer_urls) else None

    def has_effect_of(self, change: ConfChange) -> bool:
        """Has `change` taken effect already, in a received database that includes it?

        A voter was not added as a learner by an entry that the database includes, or it has been promoted since; and a learner
        was not added as a voter. Such an entry was refused, or another one follows.
        """
        if change.type == ConfChangeType.REMOVE_NODE:
            return change.node_id in self.removed
        member = self.members.get(change.node_id)
        is_for_learner = change.type == ConfChangeType.ADD_LEARNER_NODE
        return member is not None and member.is_learner == is_for_learner

    def apply(self, change: ConfChange) -> Member | None:
        """Apply a change that `validate` accepts. Returns the member added, updated or promoted; None for a removal."""
        if change.type == ConfChangeType.REMOVE_NODE:
            removed = self.members.get(change.node_id)
            self._remove(change.node_id)
            if removed is not None:
                logger.info("removed member", extra=_named("removed-remote-peer", removed))
            return None
        raw = json.loads(change.context)
        known = self.members.get(change.node_id)
        if raw.get("isPromote"):
            member = self.members[change.node_id]._replace(is_learner=False)
            logger.info("promote member", extra=fields(promoted_member_id=hex_id(change.node_id)))
        elif known is not None:
            member = known._replace(peer_urls=tuple(raw.get("peerURLs") or ()))
            logger.info("updated member", extra=_named("updated-remote-peer", member))
        else:
            member = Member.from_json(raw)._replace(is_learner=change.type == ConfChangeType.ADD_LEARNER_NODE)
            urls = {"added-peer-id": hex_id(member.id), "added-peer-peer-urls": list(member.peer_urls)}
            logger.info("added member", extra=fields(urls, added_peer_is_learner=member.is_learner))
        self._save(member)
        return member

    def assume(self, members: Iterable[Member]) -> None:
        """Have these members, in memory only, until a database replaces them: the own one was lost."""
        self.members = {member.id: member for member in members}

    def become_only_member(self, member_id: int, peer_urls: tuple[str, ...]) -> None:
        """Remove all others, and make this member a voter. peer_urls: used if it is not known, or has been removed."""
        for other in [one for one in self.members if one != member_id]:
            self._remove(other)
        if member_id in self.removed:
            self.removed.remove(member_id)
            self._backend.delete(Bucket.MEMBERS_REMOVED, hex_id(member_id).encode())
        known = self.members.get(member_id) or Member(member_id, peer_urls)
        self._save(known._replace(is_learner=False))

    def set_attributes(self, member_id: int, name: str, client_urls: Iterable[str]) -> None:
        """Store what a member has published. An unknown or removed member is ignored, as in etcd."""
        known = self.members.get(member_id)
        if known is not None:
            self._save(known._replace(name=name, client_urls=tuple(client_urls)))

    def set_cluster_version(self, version: str) -> None:
        if self.cluster_version is None:
            logger.info("set initial cluster version", extra=fields(cluster_version=_minor(version)))
        elif self.cluster_version != version:
            versions = {"from": _minor(self.cluster_version), "to": _minor(version)}
            logger.info("updated cluster version", extra=fields(versions))
        self.cluster_version = version
        self._backend.put(Bucket.CLUSTER, _CLUSTER_VERSION_KEY, version.encode())
        storage_version.follow(self._backend, version)

    def set_downgrade(self, enabled: bool, version: str) -> None:
        self.downgrade_target = version if enabled and version else None
        raw = {"target-version": version if enabled else "", "enabled": enabled}
        self._backend.put(Bucket.CLUSTER, _DOWNGRADE_KEY, json.dumps(raw, separators=(",", ":")).encode())

    def _save(self, member: Member) -> None:
        self.members[member.id] = member
        value = json.dumps(member.to_json(), separators=(",", ":")).encode()
        self._backend.put(Bucket.MEMBERS, hex_id(member.id).encode(), value)

    def _remove(self, member_id: int) -> None:
        self.members.pop(member_id, None)
        self.removed.add(member_id)
        self._backend.delete(Bucket.MEMBERS, hex_id(member_id).encode())
        self._backend.put(Bucket.MEMBERS_REMOVED, hex_id(member_id).encode(), b"removed")

    # --- the v2 form

    def apply_v2(self, path: str, value: str) -> None:
        """Apply a request in the form of 3.4 and 3.5: a member's attributes or the cluster version. Other paths belong to the
        v2 store and are ignored.
        """
        parts = path.strip("/").split("/")
        if parts == ["0", "version"]:
            self.set_cluster_version(value)
        elif len(parts) == 4 and parts[:2] == ["0", "members"] and parts[3] == "attributes":
            raw = json.loads(value)
            self.set_attributes(int(parts[2], 16), raw.get("name") or "", raw.get("clientURLs") or ())

    def to_v2_json(self) -> bytes:
        """The `data` of a snapshot: the tree of the v2 store, from which members of 3.5 load the membership."""
        children = [_v2_member(member) for member in self.sorted()]
        removed = [_v2_file(f"/0/removed_members/{hex_id(one)}", "") for one in sorted(self.removed)]
        zero = [_v2_directory("/0/members", children), _v2_directory("/0/removed_members", removed)]
        if self.cluster_version:
            zero.append(_v2_file("/0/version", self.cluster_version))
        root = _v2_directory("/", [_v2_directory("/0", zero), _v2_directory("/1", [])])
        return json.dumps({"Root": root, "CurrentVersion": 2}, separators=(",", ":")).encode()

    def merge_v2_json(self, data: bytes, *, learners: Collection[int], is_ahead: bool) -> None:
        """Add what the database of a 3.5 sender lacks: before 3.5.20 etcd stores a member when it is added, and never again.

        is_ahead: the database is newer than this description and takes precedence.
        learners: from the database's configuration, which every version stores.
        """
        if not data:
            return
        root = json.loads(data).get("Root") or {}
        zero = _v2_child(root, "/0")
        for node in (_v2_child(zero, "/0/members").get("Children") or {}).values():
            described = _member_in_v2(node)
            if described.id not in self.removed:
                known = self.members.get(described.id, described)
                older, newer = (described, known) if is_ahead else (known, described)
                self._save(
                    Member(
                        described.id,
                        newer.peer_urls or older.peer_urls,
                        newer.name or older.name,
                        newer.client_urls or older.client_urls,
                        described.id in learners,
                    )
                )
        version = _v2_child(zero, "/0/version").get("Value")
        if version and self.cluster_version is None:
            self.set_cluster_version(version)


def _named(what: str, member: Member) -> dict[str, object]:
    """Log fields of a member, such as "updated-remote-peer-id"."""
    return fields(
        {
            f"{what}-id": hex_id(member.id),
            f"{what}-urls": list(member.peer_urls),
            f"{what}-is-learner": member.is_learner,
        }
    )


def _minor(version: str) -> str:
    return version.rpartition(".")[0]


def _v2_file(path: str, value: str) -> dict[str, Any]:
    return {"Path": path, "Value": value}


def _v2_directory(path: str, children: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Path": path, "Children": {child["Path"].rsplit("/", 1)[1]: child for child in children}}


def _v2_child(node: dict[str, Any], path: str) -> dict[str, Any]:
    children = node.get("Children") or {}
    child: dict[str, Any] = children.get(path.rsplit("/", 1)[1]) or {}
    return child


def _member_in_v2(node: dict[str, Any]) -> Member:
    path = node["Path"]
    raft_attributes = json.loads(_v2_child(node, f"{path}/raftAttributes").get("Value") or "{}")
    attributes = json.loads(_v2_child(node, f"{path}/attributes").get("Value") or "{}")
    return Member.from_json({**raft_attributes, **attributes, "id": int(path.rsplit("/", 1)[1], 16)})


def _v2_member(member: Member) -> dict[str, Any]:
    path = f"/0/members/{hex_id(member.id)}"
    raft_attributes: dict[str, Any] = {"peerURLs": list(member.peer_urls)}
    if member.is_learner:
        raft_attributes["isLearner"] = True
    files = [_v2_file(f"{path}/raftAttributes", json.dumps(raft_attributes, separators=(",", ":")))]
    if member.is_started:
        attributes = {"name": member.name, "clientURLs": list(member.client_urls)}
        files.append(_v2_file(f"{path}/attributes", json.dumps(attributes, separators=(",", ":"))))
    return _v2_directory(path, files)
