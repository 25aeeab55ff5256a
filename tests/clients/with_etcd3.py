"""A program with the `etcd3` package, run against a member: python with_etcd3.py PORT CA CERT KEY. Exits with 0 if all pass.

Runs in the environment of the third-party clients and imports nothing of tercet.
"""

from __future__ import annotations

import sys
import time

import etcd3
import etcd3.events


def main(port: str, ca: str, certificate: str, key: str) -> None:
    client = etcd3.client("127.0.0.1", int(port), ca_cert=ca, cert_cert=certificate, cert_key=key, timeout=10)
    client.put("etcd3/a", "1")
    value, pair = client.get("etcd3/a")
    assert (value, pair.key, pair.version) == (b"1", b"etcd3/a", 1)
    assert client.get("etcd3/none") == (None, None)
    assert client.put("etcd3/a", "2", prev_kv=True).prev_kv.value == b"1"
    assert client.put_if_not_exists("etcd3/b", "x")
    assert not client.put_if_not_exists("etcd3/b", "y")
    assert client.replace("etcd3/b", "x", "z")
    assert not client.replace("etcd3/b", "x", "w")
    for number in range(50):
        client.put(f"etcd3/many/{number:02}", str(number) * 100)
    found = list(client.get_prefix("etcd3/many/", sort_order="descend", sort_target="key"))
    assert [pair.key for _, pair in found] == [b"etcd3/many/%02d" % number for number in reversed(range(50))]
    assert [pair.key for _, pair in client.get_range("etcd3/a", "etcd3/c")] == [b"etcd3/a", b"etcd3/b"]
    transactions = client.transactions
    succeeded, responses = client.transaction(
        compare=[
            transactions.value("etcd3/a") == "2",
            transactions.version("etcd3/a") > 1,
            transactions.create("etcd3/none") == 0,
        ],
        success=[transactions.put("etcd3/a", "3"), transactions.get("etcd3/a"), transactions.delete("etcd3/b")],
        failure=[transactions.put("etcd3/a", "never")],
    )
    assert succeeded
    assert responses[1][0][0] == b"3"
    assert client.get("etcd3/b") == (None, None)
    assert client.delete("etcd3/a")
    assert not client.delete("etcd3/a")
    assert client.delete_prefix("etcd3/many/").deleted == 50
    client.compact(client.get_prefix_response("etcd3/").header.revision)
    assert all(pair.mod_revision > 0 for _, pair in client.get_all())
    lease = client.lease(60)
    client.put("etcd3/leased", "1", lease)
    assert (lease.granted_ttl, list(lease.keys)) == (60, [b"etcd3/leased"])
    assert 55 <= lease.remaining_ttl <= 60
    assert [answer.TTL for answer in lease.refresh()] == [60]
    lease.revoke()
    assert client.get("etcd3/leased") == (None, None)
    assert client.get_lease_info(lease.id).TTL == -1
    lock = client.lock("etcd3", ttl=60)
    assert lock.acquire(timeout=5)
    assert lock.is_acquired()
    lock.refresh()
    assert lock.release()
    watch(client)
    status = client.status()
    assert status.leader is not None
    assert status.raft_term > 0
    assert sorted(member.name for member in client.members) == ["n1", "n2", "n3"]
    assert list(client.list_alarms()) == []
    client.defragment()
    client.close()


def watch(client: etcd3.Etcd3Client) -> None:
    revision = client.put("etcd3/watched/0", "0").header.revision
    events, cancel = client.watch_prefix("etcd3/watched/", start_revision=revision, prev_kv=True)
    for number in range(1, 20):
        client.put(f"etcd3/watched/{number % 3}", str(number))
    client.delete("etcd3/watched/0")
    seen = [next(events) for _ in range(21)]
    cancel()
    assert [event.mod_revision for event in seen] == list(range(revision, revision + 21))
    assert [event.value for event in seen[:20]] == [b"%d" % number for number in range(20)]
    assert isinstance(seen[20], etcd3.events.DeleteEvent)
    assert seen[20].prev_value == b"18"
    once: list[object] = []
    watch_id = client.add_watch_callback("etcd3/watched/1", once.append)
    client.put("etcd3/watched/1", "last")
    deadline = time.monotonic() + 20
    while not once and time.monotonic() < deadline:
        time.sleep(0.01)
    client.cancel_watch(watch_id)
    assert len(once) == 1


if __name__ == "__main__":
    main(*sys.argv[1:])
    print("all held")
