"""The programs: `tercet` (a member, or one of the sub-commands) and `tercetctl` (etcdctl's commands)."""
