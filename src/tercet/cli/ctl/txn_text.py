"""The input language of `txn`, parsed into parts of a TxnRequest.

mod("foo") > "0"            a comparison: target("key") op "value", key and value quoted as in Go
put foo "a b" --prev-kv     an operation: the arguments of put, get or del, quoted as in a shell
                            an empty line ends each of the three blocks (comparisons, then on success, then on failure)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command, UnknownCommand, find
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import FlagError, parse
from tercet.cli.ctl.keys import DELETE, GET, PUT, delete_request, pause_before_range, put_request, range_request
from tercet.gotext.strconv import GoSyntaxError, parse_int, quote, unquote
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

_LITERAL = r'"(?:[^"\\]|\\.)*"|`[^`]*`'
_KEY = re.compile(rf"\s*({_LITERAL})")
_OPERATOR = re.compile(r"\)\s+(\S+)")
_VALUE = re.compile(rf"\s+({_LITERAL})")
_WORD = re.compile(r"""("(?:[^"\\]|\\.)*"|'[^']*'|[^'"\s]\S*)""", re.ASCII)
_RESULTS = {
    "=": rpc_pb2.Compare.EQUAL,
    "!=": rpc_pb2.Compare.NOT_EQUAL,
    ">": rpc_pb2.Compare.GREATER,
    "<": rpc_pb2.Compare.LESS,
}
_OPERATIONS = Command("txn", "", commands=(PUT, GET, DELETE))


def _invalid(text: str) -> CommandError:
    return CommandError(Exit.INVALID_INPUT, text)


def parse_compare(line: str) -> rpc_pb2.Compare:
    """Raises CommandError: exit 3, or 2 for an operator that does not exist."""
    target, parenthesis, rest = line.partition("(")
    if not parenthesis:
        raise _invalid(f"malformed comparison: {line}")
    key, operator, value = _split_compare(line, target, rest)
    build = _TARGETS.get(target)
    if build is None:
        raise _invalid(f"malformed comparison: {line} (unknown target {target})")
    if operator not in _RESULTS:
        raise CommandError(Exit.BAD_CONNECTION, f"Unknown result op {operator} in {line}; expected one of =, !=, <, >")
    try:
        compare = build(value)
    except GoSyntaxError as error:
        raise _invalid(f"invalid txn compare request: {line}") from error
    compare.key = key
    compare.result = _RESULTS[operator]
    return compare


def _split_compare(line: str, target: str, rest: str) -> tuple[bytes, str, bytes]:
    """Key, operator and value. The error shows what was parsed, as etcdctl's does."""
    key, operator = b"", ""
    at = 0
    try:
        found = _KEY.match(rest)
        if found is not None:
            key, at = unquote(found[1]), found.end()
            found = _OPERATOR.match(rest, at)
        if found is not None:
            operator, at = found[1], found.end()
            found = _VALUE.match(rest, at)
        if found is not None:
            return key, operator, unquote(found[1])
    except GoSyntaxError:
        pass  # an invalid literal is reported like a missing one
    raise _invalid(f'malformed comparison: {line}; got {target}({quote(key)}) {operator} ""')


def _number(value: bytes, base: int = 10) -> int:
    return parse_int(value.decode("utf-8", "surrogateescape"), base)


def _version(value: bytes) -> rpc_pb2.Compare:
    return rpc_pb2.Compare(target=rpc_pb2.Compare.VERSION, version=_number(value))


def _create(value: bytes) -> rpc_pb2.Compare:
    return rpc_pb2.Compare(target=rpc_pb2.Compare.CREATE, create_revision=_number(value))


def _mod(value: bytes) -> rpc_pb2.Compare:
    return rpc_pb2.Compare(target=rpc_pb2.Compare.MOD, mod_revision=_number(value))


def _value(value: bytes) -> rpc_pb2.Compare:
    return rpc_pb2.Compare(target=rpc_pb2.Compare.VALUE, value=value)


def _lease(value: bytes) -> rpc_pb2.Compare:
    return rpc_pb2.Compare(target=rpc_pb2.Compare.LEASE, lease=_number(value, 16))  # hexadecimal, as `lease grant` prints it


_TARGETS = {
    **dict.fromkeys(("ver", "version"), _version),
    **dict.fromkeys(("c", "create"), _create),
    **dict.fromkeys(("m", "mod"), _mod),
    **dict.fromkeys(("val", "value"), _value),
    "lease": _lease,
}


async def parse_operation(session: Session, line: str) -> rpc_pb2.RequestOp:
    """Raises CommandError with the texts of put, get and del."""
    words = split_words(line)
    if len(words) < 2:
        raise _invalid(f"invalid txn compare request: {line}")
    try:
        found = find(_OPERATIONS, words)
        values, arguments = parse(found.flags, found.arguments)
    except (UnknownCommand, FlagError) as error:
        raise _invalid(f"invalid txn request: {line}") from error
    if found.command is PUT:
        return rpc_pb2.RequestOp(request_put=put_request(values, arguments, None))
    if found.command is GET:
        return rpc_pb2.RequestOp(request_range=range_request(values, arguments))
    if found.command is DELETE:
        request = delete_request(values, arguments)
        await pause_before_range(session, values, arguments)
        return rpc_pb2.RequestOp(request_delete_range=request)
    raise _invalid(f"invalid txn request: {line}")


def split_words(line: str) -> list[str]:
    """Split as a shell does: `'raw'`, `"Go escapes"`, or bare words. A quote that is not closed is skipped, as in etcdctl.

    Raises CommandError for an invalid escape.
    """
    return [_unquoted(word) for word in _WORD.findall(line)]


def _unquoted(word: str) -> str:
    if word[0] == "'":
        return word[1:-1]
    if word[0] == '"':
        try:
            return unquote(word).decode("utf-8", "surrogateescape")
        except GoSyntaxError as error:
            raise _invalid("invalid syntax") from error
    return word
