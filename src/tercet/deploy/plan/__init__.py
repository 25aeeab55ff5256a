"""Planning: compare the facts of the hosts with the cluster file and produce the steps between them.

`desired` describes the target state of a host, `continuity` rejects changes that a started member cannot follow, `planning`
creates the steps, `plan` defines them.

This package changes nothing itself and does not import `members/`. It imports `cluster/`, `ssh/`, `release/` and `facts/`.
"""
