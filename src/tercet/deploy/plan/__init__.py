"""From what is and what is wanted to the steps between them, each of which can show itself and carry itself out.

`desired` says what a host should look like, `continuity` what may no longer change, `planning` makes the steps; `plan` is what
all of them make.

Never: change anything while it plans, or start and stop a member: it does not know `members/`. Of `deploy/` it imports
`cluster/`, `ssh/`, `release/` and `facts/`.
"""
