"""Every call of etcd3's surface, as a transcript: python etcd3_calls.py MODULE PORT.

MODULE is `etcd3` or `tercet.compat.etcd3`; on servers in the same state both must print the same.
"""

from __future__ import annotations

import io
import queue
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import grpc
from shown import shown


def show(name: str, call: Callable[[], Any]) -> None:
    try:
        print(f"{name}: {shown(call())}", flush=True)
    except grpc.RpcError as error:
        of_etcd = error.details() if error.details().startswith("etcdserver:") else ""
        print(f"{name}: RpcError {error.code()} {of_etcd}", flush=True)
    except Exception as error:
        print(f"{name}: raised {shown(error)}", flush=True)


def main(name: str, port: str) -> None:
    etcd3 = import_module(name)
    for part in ("client", "events", "exceptions", "leases", "locks", "members", "transactions", "utils", "watch"):
        import_module(f"{name}.{part}")
    client = etcd3.client("127.0.0.1", int(port), timeout=10)
    keys(client)
    transactions(etcd3, client)
    leases_and_locks(client)
    watches(etcd3, client)
    cluster(etcd3, client)
    client.close()
    without_a_server(etcd3)


def keys(client: Any) -> None:
    show("put", lambda: client.put("a/1", "one"))
    show("put prev_kv", lambda: client.put(b"a/1", b"two", prev_kv=True))
    show("get", lambda: client.get("a/1"))
    show("get none", lambda: client.get("none"))
    show("get serializable", lambda: client.get("a/1", serializable=True))
    show("get header", lambda: client.get("a/1")[1].response_header.revision)
    show("put empty key", lambda: client.put("", "x"))
    show("put int", lambda: client.put("a/1", 5))
    show("put unknown lease", lambda: client.put("a/1", "x", lease=12345))
    for number in range(2, 6):
        client.put(f"a/{number}", str(9 - number))
    client.put(b"a\xff", "high")
    client.put(b"b", "beyond")
    show("get_response", lambda: client.get_response("a/1"))
    show("get_prefix", lambda: list(client.get_prefix("a/", sort_order="descend", sort_target="value")))
    show("get_prefix keys_only", lambda: list(client.get_prefix("a/", keys_only=True)))
    show("sort_order", lambda: list(client.get_prefix("a/", sort_order="up")))
    show("sort_target", lambda: list(client.get_prefix("a/", sort_target="size")))
    show("prefix with range_end", lambda: client.get_prefix("a/", range_end="b"))
    show("unknown keyword", lambda: client.get("a/1", no_such=1))
    show("get_range", lambda: list(client.get_range("a/2", "a/4")))
    show("get_range_response", lambda: client.get_range_response("a/2", "a/4", sort_order="descend", sort_target="key"))
    show("get_all", lambda: list(client.get_all(sort_order="ascend")))
    show("get_all_response", lambda: client.get_all_response(keys_only=True))
    show("put_if_not_exists", lambda: [client.put_if_not_exists("c", "1"), client.put_if_not_exists("c", "2")])
    show("replace", lambda: [client.replace("c", "1", "2"), client.replace("c", "1", "3"), client.get("c")[0]])
    show("delete", lambda: [client.delete("c"), client.delete("c")])
    show("delete response", lambda: client.delete("a/5", prev_kv=True, return_response=True))
    show("delete_prefix", lambda: client.delete_prefix("a/"))
    show("compact", lambda: client.compact(3))
    show("compact again", lambda: client.compact(3))
    show("compact physical", lambda: client.compact(4, physical=True))


def transactions(etcd3: Any, client: Any) -> None:
    t = client.transactions
    client.put("t/a", "1")
    show("txn", lambda: client.transaction([t.value("t/a") == "1"], [t.put("t/a", "2", prev_kv=True), t.get("t/a")], []))
    show("txn fails", lambda: client.transaction([t.version("t/a") > 5], [], [t.delete("t/a", prev_kv=True)]))
    show("txn range", lambda: client.transaction([t.create("t/", "t0") == 0], [t.get("t/", "t0")], [t.put("t/b", "1")]))
    show("txn nested", lambda: client.transaction([], [t.txn([t.mod("t/b") != 0], [t.get("t/b")], [])], []))
    show("txn twice the same key", lambda: client.transaction([], [t.put("t/x", "1"), t.put("t/x", "2")], []))
    show("txn no list", lambda: client.transaction([], None, None))
    show("txn unknown", lambda: client.transaction([], ["op"], []))
    show("compare", lambda: repr(t.value("k") == "v").rpartition(".")[2])
    show("compare range", lambda: repr(t.value("k", "z") < "v").rpartition(".")[2])
    show("compare none", lambda: t.mod("k").build_message())
    show("messages", lambda: [(compare < 7).build_message() for compare in (t.version("k"), t.create("k"), t.mod("k", "m"))])
    show("hash of a compare", lambda: hash(t.mod("k")))
    show("lease_to_id", lambda: [etcd3.utils.lease_to_id(lease) for lease in (None, 5)])
    show("increment_last_byte", lambda: [etcd3.utils.increment_last_byte(b"foo"), etcd3.utils.increment_last_byte(b"\xff")])
    show("to_bytes", lambda: [etcd3.utils.to_bytes("\u00e9"), etcd3.utils.to_bytes(b"x")])


def leases_and_locks(client: Any) -> None:
    lease = client.lease(60, lease_id=77)
    show("lease", lambda: lease)
    show("lease again", lambda: client.lease(60, lease_id=77))
    show("lease too long", lambda: client.lease(10**10))
    show("put with lease", lambda: [client.put("l", "1", lease), client.put("m", "1", 77), client.get("l")[1].lease_id])
    show("lease properties", lambda: [lease.granted_ttl, sorted(lease.keys), 50 < lease.remaining_ttl <= 60])
    show("refresh", lambda: [answer.TTL for answer in lease.refresh()])
    show("refresh_lease", lambda: list(client.refresh_lease(77)))
    show("refresh none", lambda: list(client.refresh_lease(78)))
    show("info none", lambda: client.get_lease_info(78))
    show("revoke", lambda: [lease.revoke(), client.get("l")])
    show("revoke again", lambda: client.revoke_lease(77))
    lock, other = client.lock("lock", ttl=30), client.lock("lock", ttl=30)  # contended ones fail with today's tenacity
    show("lock key", lambda: [lock.key, lock.name, lock.ttl, lock.lease])
    show("refresh before", lock.refresh)
    show("lock", lambda: [lock.acquire(), lock.is_acquired(), other.is_acquired(), other.release()])
    show("lock lease", lambda: [lock.lease.ttl, len(lock.refresh())])
    show("release", lambda: [lock.release(), lock.release(), lock.is_acquired()])

    def block() -> Any:
        with other as entered:
            return [entered is other, other.is_acquired(), lock.is_acquired()]

    show("with lock", block)
    show("after", lambda: [other.is_acquired(), other.acquire(None), other.release()])


def watches(etcd3: Any, client: Any) -> None:
    first = client.put("w/a", "1").header.revision
    client.put("w/a", "2")
    client.delete("w/a")
    events, cancel = client.watch("w/a", start_revision=first, prev_kv=True)
    seen = [next(events) for _ in range(3)]
    cancel()
    for event in seen:
        show("event", lambda e=event: [type(e).__name__, e.key, e.value, e.version, e.prev_value, e.mod_revision - first])
    show("after cancel", lambda: list(events))
    show("no such field", lambda: seen[0].nothing)
    responses, cancel = client.watch_prefix_response("w/", start_revision=first)
    show("response", lambda: [len(next(responses).events), type(responses).__name__])
    cancel()
    show("watch_once", lambda: client.watch_once("w/a", timeout=10, start_revision=first).value)
    show("watch_prefix_once", lambda: client.watch_prefix_once("w/", timeout=10, start_revision=first).value)
    show("watch_once_response", lambda: len(client.watch_once_response("w/a", timeout=10, start_revision=first).events))
    show("prefix_once_response", lambda: len(client.watch_prefix_once_response("w/", 10, start_revision=first).events))
    show("no event", lambda: client.watch_once("w/none", timeout=0.2))
    answers: queue.Queue[Any] = queue.Queue()
    watch_id = client.add_watch_prefix_callback("w/", answers.put, start_revision=first)
    show("callback", lambda: [event.value for event in answers.get(timeout=10).events])
    client.cancel_watch(watch_id)
    client.cancel_watch(12345)
    one = client.add_watch_callback("w/a", answers.put, start_revision=first, range_end="w/b", progress_notify=True)
    show("range", lambda: len(answers.get(timeout=10).events))
    client.cancel_watch(one)
    client.compact(first + 1)
    compacted, cancel = client.watch("w/a", start_revision=1)
    show("compacted", lambda: next(compacted))
    show("compacted_revision", lambda: etcd3.exceptions.RevisionCompactedError(5).compacted_revision)
    cancel()


def cluster(etcd3: Any, client: Any) -> None:
    (member,) = client.members
    show("member", lambda: [member.name, len(member.peer_urls), len(member.client_urls), list(member.active_alarms)])
    status = client.status()
    show("status", lambda: [status.version, status.leader.id == member.id, status.raft_index > 0, status.db_size > 0])
    show("add_member", lambda: client.add_member(["no url"]))
    show("remove_member", lambda: client.remove_member(5))
    show("update_member", lambda: client.update_member(5, ["http://127.0.0.1:1"]))
    show("update", lambda: member.update(list(member.peer_urls)))
    show("alarms", lambda: [client.create_alarm(), list(client.list_alarms()), list(client.list_alarms(alarm_type="no space"))])
    show("no space", lambda: client.put("full", "x"))
    show("disarm", lambda: [client.disarm_alarm(), list(client.list_alarms())])
    show("alarm type", lambda: list(client.list_alarms(alarm_type="corrupt")))
    show("hash", lambda: isinstance(client.hash(), int))
    show("defragment", client.defragment)
    copy = io.BytesIO()
    show("snapshot", lambda: [client.snapshot(copy), len(copy.getvalue()) % 512])
    show("attributes", lambda: [client.timeout, client.metadata, client.call_credentials, client.uses_secure_channel])
    show("stub", lambda: client.kvstub.Range(etcd3.etcdrpc.RangeRequest(key=b"none"), 10).count)


def without_a_server(etcd3: Any) -> None:
    show("one of user and password", lambda: etcd3.client(user="u"))
    show("certificate without key", lambda: etcd3.client(ca_cert="/none", cert_cert="/none"))
    show("no CA file", lambda: etcd3.client(ca_cert="/none/ca.pem"))
    show("refused", lambda: etcd3.client("127.0.0.1", 1, timeout=10).put("a", "b"))
    show("refused without limit", lambda: etcd3.client("127.0.0.1", 1).get("a"))
    show("refused login", lambda: etcd3.client("127.0.0.1", 1, timeout=10, user="u", password="p").get("a"))


if __name__ == "__main__":
    main(*sys.argv[1:])
