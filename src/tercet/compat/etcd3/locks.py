"""A lock that python-etcd3 clients exclude each other with.

The key is `/locks/NAME`, its value the owner's UUID; it exists while the lock is held. This is not the layout of etcd's own
lock service: it does not exclude `etcdctl lock` or `tercet.Client.lock`, and there is no fencing token.
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

from tercet.compat.etcd3 import events, exceptions


class Lock:
    """`with client.lock("name") as lock: ...`. A failed acquisition does not raise there: ask `is_acquired`."""

    lock_prefix = "/locks/"

    def __init__(self, name: Any, ttl: int = 60, etcd_client: Any = None) -> None:
        self.name = name
        self.ttl = ttl
        self.etcd_client = etcd_client
        self.key = self.lock_prefix + self.name
        self.lease: Any = None
        self.uuid = uuid.uuid1().bytes
        self.revision = 0

    def acquire(self, timeout: float | None = 10) -> bool:
        """Wait at most `timeout` seconds, None: forever. Returns whether the lock is held."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._try_acquire():
            remaining = None if deadline is None else max(deadline - time.monotonic(), 0)
            if remaining == 0:
                return False
            self._wait_delete_event(remaining)
        return True

    def release(self) -> bool:
        """Returns whether the lock was held."""
        transactions = self.etcd_client.transactions
        held = [transactions.value(self.key) == self.uuid]
        success, _ = self.etcd_client.transaction(compare=held, success=[transactions.delete(self.key)], failure=[])
        return bool(success)

    def refresh(self) -> Any:
        """Give the lock its whole TTL again. Raises ValueError if it was never acquired."""
        if self.lease is None:
            raise ValueError("No lease associated with this lock - have you acquired the lock yet?")
        return self.lease.refresh()

    def is_acquired(self) -> bool:
        """Whether the server says that this object holds the lock."""
        owner, _ = self.etcd_client.get(self.key)
        return bool(owner == self.uuid)

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.release()

    def _try_acquire(self) -> bool:
        transactions = self.etcd_client.transactions
        self.lease = self.etcd_client.lease(self.ttl)
        success, results = self.etcd_client.transaction(
            compare=[transactions.create(self.key) == 0],
            success=[transactions.put(self.key, self.uuid, lease=self.lease)],
            failure=[transactions.get(self.key)],
        )
        if success:
            self.revision = results[0].response_put.header.revision
            return True
        self.revision = results[0][0][1].mod_revision
        self.lease.revoke()
        self.lease = None
        return False

    def _wait_delete_event(self, timeout: float | None) -> None:
        """Until the key of the present owner is deleted, or the time has passed."""
        try:
            found, cancel = self.etcd_client.watch(self.key, start_revision=self.revision + 1)
        except exceptions.WatchTimedOut:
            return
        timer = None if timeout is None else threading.Timer(timeout, cancel)
        if timer is not None:
            timer.daemon = True
            timer.start()
        for event in found:
            if isinstance(event, events.DeleteEvent):
                cancel()
                break
        if timer is not None:
            timer.cancel()
