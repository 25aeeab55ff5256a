"""The replicated state machine: proposals, apply, linearizable reads, membership, log compaction, snapshots. Sans-I/O."""
