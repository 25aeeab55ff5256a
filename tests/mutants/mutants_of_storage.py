"""Mutants of storage/: the write-ahead log. The simulator has a backend of its own; LMDB's is tested in tests/storage."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "wal_without_fsync",
        "storage/wal.py",
        "                self.observe_write(perf_counter() - began)\n            self._file.datasync()\n",
        "                self.observe_write(perf_counter() - began)\n",
        "`sync` returns before its records are durable",
    ),
    Mutant(
        "wal_drops_a_lone_hard_state",
        "storage/wal.py",
        "            self._state_changed = True\n",
        "            self._state_changed = bool(entries)\n",
        "a term or vote without entries is not written",
    ),
    Mutant(
        "wal_directory_not_synced",
        "storage/wal.py",
        '        fs.sync_directory(posixpath.dirname(directory) or ".")\n',
        "",
        "a power cut can remove the directory of a new log, with everything in it",
    ),
    Mutant(
        "wal_segment_name_not_synced",
        "storage/wal.py",
        "        fs.sync_directory(directory)\n    except StorageFailure:\n",
        "    except StorageFailure:\n",
        "a power cut can remove a segment, with the records in it",
    ),
    Mutant(
        "wal_read_but_not_durable",
        "storage/wal.py",
        "        wal._file.datasync()\n        return wal, scan.recovered",
        "        return wal, scan.recovered",
        "records that a restart has read from the page cache can be lost in a power cut",
        unit_test="tests/storage/test_wal.py::test_a_restart_after_a_failed_fsync_syncs_what_it_reads",
    ),
    Mutant(
        "wal_restart_trusts_a_failed_fsync",
        "storage/wal.py",
        "        wal._file.pwrite(wal._file.pread(scan.end - scan.synced_to, scan.synced_to), scan.synced_to)\n",
        "",
        "records that a failed fdatasync left in the page cache alone are read by a restart, and lost in a power cut",
    ),
    Mutant(
        "wal_releases_needed_segments",
        "storage/wal.py",
        "self._segments[1].first_index > unneeded + 1:",
        "self._segments[1].first_index > unneeded + 20:",
        "entries after the newest snapshot are removed",
    ),
    Mutant(
        "wal_releases_without_a_snapshot",
        "storage/wal.py",
        "unneeded = min(index, self._durable_snapshot.index) if self._durable_snapshot else 0",
        "unneeded = self._next_index",
        "segments are removed although no durable snapshot covers them",
    ),
    Mutant(
        "wal_segment_head_without_snapshot",
        "storage/wal.py",
        "self._recorded_state, self.metadata, self._snapshot)",
        "self._recorded_state, self.metadata, None)",
        "the snapshot is forgotten when the segment with its record is removed",
        unit_test="tests/storage/test_wal.py::test_the_head_of_a_segment_describes_only_the_records_before_it",
    ),
    Mutant(
        "wal_snapshot_without_commit",
        "storage/wal.py",
        "self._state = HardState(term, vote, max(commit, snapshot.index))",
        "self._state = HardState(term, vote, commit)",
        "a snapshot that is newer than the durable commit index is ignored by a restart",
    ),
    Mutant(
        "wal_snapshot_clears_the_vote",
        "storage/wal.py",
        "            term, vote = snapshot.term, 0\n        self._state",
        "            term, vote = snapshot.term, 0\n        vote = 0\n        self._state",
        "a snapshot record erases the vote of the current term",
    ),
    Mutant(
        "wal_segment_begun_before_the_last_is_durable",
        "storage/wal.py",
        '        """Continue in the next segment, after making all before it durable."""\n        self._flush()\n',
        '        """Continue in the next segment, after making all before it durable."""\n'
        "        if self._records:\n            self._file.pwrite(b''.join(self._records), self._offset)\n"
        "            self._records, self._records_bytes = [], 0\n",
        "records at the end of a segment are never synced",
    ),
    Mutant(
        "wal_checksum_not_compared",
        "storage/wal_format.py",
        "if google_crc32c.extend(seed, data[offset:crc_at]) != crc:",
        "if False:",
        "a flipped bit is not detected",
    ),
    Mutant(
        "wal_replay_keeps_replaced_entries",
        "storage/wal_recovery.py",
        "del self.entries[index - self.first_index :]",
        "pass",
        "entries that a later leader replaced come back after a restart",
    ),
    Mutant(
        "wal_replay_stops_at_the_first_state",
        "storage/wal_recovery.py",
        "        self.state = HardState(*form.STATE.unpack_from(body))\n        next_index = self.next_index\n",
        "        if not self.state.vote:\n            self.state = HardState(*form.STATE.unpack_from(body))\n"
        "        next_index = self.next_index\n",
        "a restart finds an old term and vote",
    ),
    Mutant(
        "wal_torn_tail_not_cut",
        "storage/wal_recovery.py",
        "        file.truncate(offset)\n        file.allocate(len(data))\n",
        "",
        "the rest of a torn record stays behind new ones, and the next start refuses the log",
        unit_test="tests/storage/test_wal.py::test_a_power_failure_at_any_call",
    ),
    Mutant(
        "wal_damage_taken_for_a_torn_tail",
        "storage/wal_recovery.py",
        "        if reason is not None:\n            raise",
        "        if False:\n            raise",
        "damage to durable records is cut off as if a power cut had torn them",
    ),
    Mutant(
        "wal_snapshot_without_its_entries",
        "storage/wal_recovery.py",
        "        del self.entries[: base + 1 - self.first_index]\n",
        "        self.entries.clear()\n",
        "entries after the newest snapshot are dropped by a restart",
    ),
)
