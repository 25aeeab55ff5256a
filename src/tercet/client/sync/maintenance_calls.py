"""Generated from client/maintenance_calls.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

import os

from tercet.client.facade import Facade
from tercet.client.invoker import Seconds
from tercet.client.maintenance_calls import Alarm, AlarmName, HashKV, MaintenanceCalls, Status
from tercet.client.results import Header
from tercet.client.snapshot_file import Snapshot


class SyncMaintenanceCalls(Facade[MaintenanceCalls]):
    """Every method raises TercetError, those that change something Indeterminate too."""

    def status(self, *, timeout: Seconds = ...) -> Status:
        return self._run(self._inner.status(timeout=timeout))

    def list_alarms(self, *, timeout: Seconds = ...) -> tuple[Alarm, ...]:
        return self._run(self._inner.list_alarms(timeout=timeout))

    def raise_alarm(self, name: AlarmName, member_id: int, *, timeout: Seconds = ...) -> tuple[Alarm, ...]:
        """Activate an alarm: the cluster refuses puts (NOSPACE), or everything (CORRUPT)."""
        return self._run(self._inner.raise_alarm(name, member_id, timeout=timeout))

    def disarm_alarm(self, name: AlarmName, member_id: int, *, timeout: Seconds = ...) -> tuple[Alarm, ...]:
        """Returns those that were disarmed."""
        return self._run(self._inner.disarm_alarm(name, member_id, timeout=timeout))

    def hash_kv(self, revision: int = 0, *, timeout: Seconds = ...) -> HashKV:
        """revision: 0 for the current one."""
        return self._run(self._inner.hash_kv(revision, timeout=timeout))

    def defragment(self, *, timeout: Seconds = None) -> Header:
        """Rewrite the member's database without free pages. The member answers nothing else meanwhile; no limit by default."""
        return self._run(self._inner.defragment(timeout=timeout))

    def move_leader(self, target: int, *, timeout: Seconds = ...) -> Header:
        """Make the member with ID `target` the leader. The member that is asked must lead. Raises FailedPrecondition."""
        return self._run(self._inner.move_leader(target, timeout=timeout))

    def snapshot(self, path: str | os.PathLike[str], *, timeout: float | None = None) -> Snapshot:
        """Save the member's database to a file, checked by its SHA-256. An existing file is replaced, once all has arrived.

        timeout: for the whole transfer; no limit by default. Raises TercetError, also for a wrong checksum, and OSError.
        """
        return self._run(self._inner.snapshot(path, timeout=timeout))
