"""txn: comparisons and operations from stdin, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tercet.cli.ctl.blocking import interruptible
from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.txn_text import parse_compare, parse_operation
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


async def _txn(session: Session, arguments: list[str]) -> None:
    if arguments:
        raise bad_arguments("txn command does not accept argument")
    printer = session.open()
    client = session.client()  # certificates that cannot be used are refused before the first prompt
    with interruptible():  # also at a prompt, where a user may press Ctrl-C
        request = await _read(session)
    async with client:
        printer.txn(await client.kv.txn(request))


async def _read(session: Session) -> rpc_pb2.TxnRequest:
    request = rpc_pb2.TxnRequest()
    _prompt(session, "compares:")
    request.compare.extend(parse_compare(line) for line in _block(session))
    for prompt, operations in (("success", request.success), ("failure", request.failure)):
        _prompt(session, f"{prompt} requests (get, put, del):")
        operations.extend([await parse_operation(session, line) for line in _block(session)])
    return request


def _prompt(session: Session, text: str) -> None:
    if session.values.bool("interactive"):
        session.out.write(text.encode() + b"\n")
        session.out.flush()


def _block(session: Session) -> Iterator[str]:
    """The lines before the next empty line. Raises CommandError if stdin ends first: an incomplete txn is not sent."""
    while True:
        line = session.stdin.readline()
        if not line.endswith(b"\n"):
            raise CommandError(Exit.INVALID_INPUT, "EOF")
        text = line.strip().decode("utf-8", "surrogateescape")
        if not text:
            return
        yield text


TXN = Command(
    "txn",
    "Run comparisons and operations as one transaction",
    "[options]",
    (Flag("interactive", "bool", False, "prompt for each part", short="i"),),
    _txn,
    description=(
        "Reads three blocks from stdin, each followed by an empty line: comparisons, operations on success, on failure.\n"
        'A comparison is target("key") op "value"; target is value, version, create, mod or lease; op is =, !=, < or >.\n'
        "An operation is a put, get or del with its flags."
    ),
    examples=(
        """printf 'mod("a") > "0"\\n\\nput b "of a"\\nget a\\n\\nput a first\\n\\n' | tercetctl txn""",
        "tercetctl txn -i",
    ),
)
