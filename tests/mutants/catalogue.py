"""All mutants: the bugs that the simulator must catch, and the changes that no run can tell from the original."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant
from tests.mutants.mutants_of_auth import MUTANTS as AUTH
from tests.mutants.mutants_of_lease import MUTANTS as LEASE
from tests.mutants.mutants_of_mvcc import MUTANTS as MVCC
from tests.mutants.mutants_of_raft import MUTANTS as RAFT
from tests.mutants.mutants_of_replica import MUTANTS as REPLICA
from tests.mutants.mutants_of_storage import MUTANTS as STORAGE
from tests.mutants.mutants_of_watch import MUTANTS as WATCH

MUTANTS: Final[tuple[Mutant, ...]] = (*RAFT, *REPLICA, *STORAGE, *MVCC, *WATCH, *LEASE, *AUTH)
BUGS: Final = tuple(mutant for mutant in MUTANTS if not mutant.equivalent)
EQUIVALENT: Final = tuple(mutant for mutant in MUTANTS if mutant.equivalent)
