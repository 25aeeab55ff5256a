"""Two servers of a real etcd 3.7 with the same IDs: etcdctl 3.7 talks to one, tercetctl to the other; all output must be equal.

Unlike in etcd_pair, nothing is adapted from an older version: the bytes of stdout, the lines of stderr and the exit code are
compared as they are, except for what differs between two runs of one program (times, addresses, IDs that a server invents).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cli.etcd_pair import ADVERTISED, Outcome, run_ours, run_theirs
from tests.support.etcd import running_etcd
from tests.support.newer import newer_etcd

Words = Sequence[str | bytes]
_RULE = "─".encode().decode("latin-1")
_OURS_OR_THEIRS = ("{", "stty: ")  # log lines, which carry times; a complaint of the program that etcdctl asks passwords with


@dataclass(frozen=True)
class NewerPair:
    """`theirs` and `ours`: the servers' endpoints, `host:port`."""

    theirs: str
    ours: str

    def run(self, words: Words, stdin: bytes = b"", **variables: str) -> tuple[Outcome, Outcome]:
        """The line with etcdctl on one server and with tercetctl on the other."""
        theirs = run_theirs(self.theirs, words, stdin, program=str(tool("etcdctl")), **variables)
        return theirs, run_ours(self.ours, words, stdin, **variables)

    def difference(self, words: Words, stdin: bytes = b"", **variables: str) -> str:
        """ "" if both did the same, else what each did."""
        theirs, ours = (self.comparable(outcome) for outcome in self.run(words, stdin, **variables))
        return "" if theirs == ours else f"{words}:\n  etcdctl:   {theirs}\n  tercetctl: {ours}\n"

    def comparable(self, outcome: Outcome) -> tuple[int, bytes, list[str]]:
        """Code, stdout and stderr without what differs between two runs."""
        err = [self._plain(line) for line in _without_usage(outcome.err) if line and not line.startswith(_OURS_OR_THEIRS)]
        return outcome.code, self._plain(outcome.out.decode("latin-1")).encode("latin-1"), err

    def _plain(self, text: str) -> str:
        for endpoint in (self.theirs, self.ours):
            text = text.replace(endpoint, "EP")
        text = re.sub(r"tercet(ctl|utl)\b", r"etcd\1", text)
        text = re.sub(r"(received message larger than max) \(\d+", r"\1 (SIZE", text)  # of a database at this moment
        plain = re.sub(r"\b\d+(\.\d+)?(m|µ|\xc2\xb5)?s\b", "TIME", text)
        if plain != text:  # the width of a table's column depends on the digits of a time
            plain = re.sub(f"({_RULE})+", _RULE, re.sub(" +", " ", plain))
        return plain


def _without_usage(text: str) -> list[str]:
    """Both explain themselves after a mistake, each in its own words."""
    return re.sub(r"(?ms)^Usage:\n.*?(?=^Error|\Z)|^\n*Did you mean .*?\n|^Run '.* --help' for usage\.$", "", text).split("\n")


def tool(name: str) -> Path:
    """A program of the real etcd 3.7."""
    return Path(newer_etcd()[0]).with_name(name)


@contextmanager
def running_pair(place: Path) -> Iterator[NewerPair]:
    """Start both servers; they end with the block."""
    with ExitStack() as stack:
        endpoints = []
        for name in ("theirs", "ours"):
            (place / name).mkdir()
            server = running_etcd(
                place / name, "--bcrypt-cost=4", advertise=ADVERTISED, initial_peer_url=ADVERTISED, program=newer_etcd()
            )
            endpoints.append(stack.enter_context(server).endpoint)
        yield NewerPair(*endpoints)
