"""The client."""

from __future__ import annotations

from tercet.compat.aetcd.cluster_calls import Alarm, LeaseCalls, MaintenanceCalls, Status
from tercet.compat.aetcd.kv_calls import KVCalls
from tercet.compat.aetcd.watch_calls import WatchCalls
from tercet.compat.transactions import Transactions

__all__ = ["Alarm", "Client", "Status", "Transactions"]


class Client(KVCalls, WatchCalls, LeaseCalls, MaintenanceCalls):
    """`async with Client() as client`, or without a block: every coroutine connects at its first use."""
