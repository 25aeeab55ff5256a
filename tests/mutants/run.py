"""Runs the mutation bench: each mutant against the simulator's seeds, in parallel, until one catches it.

    python -m tests.mutants.run                     all mutants
    python -m tests.mutants.run vote --seeds 50     those whose name contains "vote"
    python -m tests.mutants.run --resume            those that have no result for these sources yet
A mutant runs in a process of its own, on a copy of the sources with the one file changed. The table says which check caught it
and how many seeds that took; the last line is `caught N of N`, and the exit status 1 if one survived or could not be run. The
unchanged sources are run first: where they fail, a mutant that fails proves nothing.

A bug whose condition no fault forms often enough names a unit test, which is run where the seeds find nothing and must fail
with the bug; that it passes without is what the test suite shows.

Results are kept in build/mutants.jsonl as they come, each with a hash of the sources that the simulator uses: a result of other
sources counts for nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Final

from tests.mutants import catalogue
from tests.mutants.mutant import SOURCE, Mutant

SEEDS_MAX: Final = 200
SECONDS_MAX: Final = 1800
ROOT: Final = SOURCE.parents[1]
RESULTS: Final = ROOT / "build" / "mutants.jsonl"
_PROGRAM: Final = """
import gc, json, logging, sys
gc.disable()
logging.disable(logging.CRITICAL)
from tercet.sim.simulator import TICKS, run_seed
for seed in range(int(sys.argv[1])):
    outcome = run_seed(seed, ticks=TICKS)
    if seed % 10 == 9:
        gc.collect()
    if outcome.failure is not None:
        print(json.dumps([seed, outcome.failure]))
        break
else:
    print("null")
"""
_BROKEN: Final = ("NameError", "UnboundLocalError", "ImportError")  # the mutant's own mistake: no check has caught it
_USED: Final = ("auth", "errors.py", "lease", "mvcc", "peer", "proto", "raft", "replica", "sim", "storage")  # by the simulator
_UNCHANGED: Final = Mutant("unchanged", "", "", "", "")


@dataclass(frozen=True)
class Result:
    """seeds: how many were run. failure: the first line of what caught the mutant; None: it survived.

    error: why it could not be run; "" otherwise. unit_test: the test that caught what the seeds did not.
    """

    name: str
    seeds: int
    failure: str | None
    error: str = ""
    unit_test: str = ""

    def __str__(self) -> str:
        if self.error:
            verdict = f"ERROR {self.error}"
        elif self.unit_test:
            verdict = f" {self.seeds}+ seeds  {self.unit_test}"
        elif self.failure is None:
            verdict = f"SURVIVED {self.seeds} seeds"
        else:
            verdict = f"{self.seeds:4} seeds  {self.failure}"
        return f"{self.name:44} {verdict}"[:160]


def run(mutant: Mutant, seeds: int) -> Result:
    """Run one mutant."""
    changed = mutant.apply()
    with tempfile.TemporaryDirectory(prefix="tercet-mutant-") as directory:
        copy = Path(directory) / "tercet"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / mutant.file).write_text(changed)
        result = _run_copy(mutant, seeds, directory)
        if result.failure is not None or result.error or not mutant.unit_test:
            return result
        return _run_unit_test(mutant, seeds, directory)


def run_unchanged(seeds: int) -> Result:
    """Run the sources as they are."""
    with tempfile.TemporaryDirectory(prefix="tercet-mutant-") as directory:
        shutil.copytree(SOURCE, Path(directory) / "tercet", ignore=shutil.ignore_patterns("__pycache__"))
        return _run_copy(_UNCHANGED, seeds, directory)


def _run_copy(mutant: Mutant, seeds: int, directory: str) -> Result:
    environment = {**os.environ, "PYTHONPATH": directory, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-c", _PROGRAM, str(seeds)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        return Result(mutant.name, 0, None, f"no end within {SECONDS_MAX} s")
    if done.returncode:
        return Result(mutant.name, 0, None, (done.stderr.strip().splitlines() or ["no message"])[-1])
    found = json.loads(done.stdout)
    if found is None:
        return Result(mutant.name, seeds, None)
    seed, failure = found[0], found[1].splitlines()[0]
    if failure.startswith(_BROKEN):
        return Result(mutant.name, seed + 1, None, failure)
    return Result(mutant.name, seed + 1, failure)


def _run_unit_test(mutant: Mutant, seeds: int, directory: str) -> Result:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        f"{directory}/tests",
        mutant.unit_test,
    ]
    environment = {**os.environ, "PYTHONPATH": directory}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    if done.returncode not in (0, 1):  # neither passed nor failed
        return Result(mutant.name, 0, None, f"{mutant.unit_test} cannot be run")
    failure = "a unit test fails" if done.returncode else None
    return Result(mutant.name, seeds, failure, unit_test=mutant.unit_test if failure else "")


def source_hash() -> str:
    """Of all that a simulated cluster runs."""
    files = (path for used in _USED for path in sorted((SOURCE / used).rglob("*.py")) or [SOURCE / used])
    return _hash(b"".join(path.read_bytes() for path in files))


def _hash(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]


class Results:
    """The file of results. Those of the same sources, mutant and number of seeds can be read again."""

    def __init__(self, path: Path, seeds: int, mutants: Iterable[Mutant]) -> None:
        self._path = path
        sources = source_hash()
        self._keys = {one.name: f"{sources} {seeds} {_hash(repr(one).encode())}" for one in (_UNCHANGED, *mutants)}

    def read(self) -> dict[str, Result]:
        """By mutant; one that could not be run is run again."""
        if not self._path.exists():
            return {}
        lines = [json.loads(line) for line in self._path.read_text().splitlines()]
        results = [Result(**line["result"]) for line in lines if line["key"] == self._keys.get(line["result"]["name"])]
        return {result.name: result for result in results if not result.error}

    def add(self, result: Result) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps({"key": self._keys[result.name], "result": asdict(result)}) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run planted bugs against the simulator.")
    parser.add_argument("only", nargs="*", help="run mutants whose name contains one of these")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="seeds a mutant (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="run only what has no result for these sources yet")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of results (default: %(default)s)")
    options = parser.parse_args(arguments)
    chosen = [one for one in catalogue.BUGS if not options.only or any(text in one.name for text in options.only)]
    for mutant in chosen:
        mutant.apply()  # fail before the first hour is spent, not after
    results = Results(options.results, options.seeds, chosen)
    known = results.read() if options.resume else {}
    left = [mutant for mutant in chosen if mutant.name not in known]
    began = time.monotonic()
    if left and _UNCHANGED.name not in known:
        print(f"running {options.seeds} seeds without a mutant", flush=True)
        unchanged = run_unchanged(options.seeds)
        if unchanged.failure is not None or unchanged.error:
            print(f"they fail: {unchanged}")
            return 1
        results.add(unchanged)
    with ThreadPoolExecutor(options.jobs) as pool:
        for future in as_completed([pool.submit(run, mutant, options.seeds) for mutant in left]):
            result = known[future.result().name] = future.result()
            results.add(result)
            done = sum(mutant.name in known for mutant in chosen)
            print(f"[{done:3} of {len(chosen)}, {time.monotonic() - began:5.0f} s] {result}", flush=True)
    return report([known[mutant.name] for mutant in chosen])


def report(results: Sequence[Result]) -> int:
    """Print the table. Returns the exit status."""
    print(f"\n{'mutant':44} seeds and check")
    for result in results:
        print(result)
    caught = [result for result in results if result.failure is not None]
    seeds = [result.seeds for result in caught if not result.unit_test]
    if seeds:
        print(f"caught by the simulator: {len(seeds)}; seeds until then: median {median(seeds):.0f}, at most {max(seeds)}")
    print(f"caught {len(caught)} of {len(results)}")
    return 0 if len(caught) == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
