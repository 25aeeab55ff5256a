"""The replicated state machine: proposals, apply, linearizable reads, membership, checkpoints, snapshots. Sans-I/O."""
