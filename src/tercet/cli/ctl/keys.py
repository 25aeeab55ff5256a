"""put, get and del: the commands, and the parsing of their arguments, which txn shares."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from tercet.cli.ctl.blocking import interruptible
from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag, Values
from tercet.cli.ctl.output import Printer
from tercet.client import prefix_end
from tercet.gotext.strconv import GoSyntaxError, parse_int, quote
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

Sort = rpc_pb2.RangeRequest.SortTarget
_SORT_TARGETS = {
    "": Sort.KEY,
    "KEY": Sort.KEY,
    "CREATE": Sort.CREATE,
    "MODIFY": Sort.MOD,
    "VALUE": Sort.VALUE,
    "VERSION": Sort.VERSION,
}
_SORT_ORDERS = {"": rpc_pb2.RangeRequest.NONE, "ASCEND": rpc_pb2.RangeRequest.ASCEND, "DESCEND": rpc_pb2.RangeRequest.DESCEND}
_DELETE_PAUSE_SECONDS = 2
_ALL_FROM = b"\0"  # as range_end: unbounded; as key: the first possible key


def put_request(values: Values, arguments: list[str], stdin: bytes | None) -> rpc_pb2.PutRequest:
    """stdin: the value if the arguments lack it; None if stdin must not be read."""
    ignore_value = values.bool("ignore-value")
    if not arguments:
        raise bad_arguments(_PUT_ARGUMENTS)
    if ignore_value and len(arguments) > 1:
        raise bad_arguments("put command needs only 1 argument when 'ignore-value' is set")
    value = b""
    if not ignore_value:
        given = os.fsencode(arguments[1]) if len(arguments) > 1 else stdin
        if given is None or (len(arguments) == 1 and not given):
            raise bad_arguments(_PUT_ARGUMENTS)
        value = given
    return rpc_pb2.PutRequest(
        key=os.fsencode(arguments[0]),
        value=value,
        lease=_lease(values.string("lease")),
        prev_kv=values.bool("prev-kv"),
        ignore_value=ignore_value,
        ignore_lease=values.bool("ignore-lease"),
    )


def range_request(values: Values, arguments: list[str]) -> rpc_pb2.RangeRequest:
    if not arguments:
        raise bad_arguments("get command needs one argument as key and an optional argument as range_end")
    _refuse_prefix_and_from_key(values)
    if values.bool("keys-only") and values.bool("count-only"):
        raise bad_arguments("`--keys-only` and `--count-only` cannot be set at the same time, choose one")
    consistency = values.string("consistency")
    if consistency not in ("l", "s"):
        raise CommandError(Exit.BAD_FEATURE, f"unknown consistency flag {quote(consistency.encode())}")
    key, range_end = _key_range(values, arguments)
    order, target = _sort(values)
    _check_revisions(values, "Create")
    _check_revisions(values, "Mod")
    return rpc_pb2.RangeRequest(
        key=key,
        range_end=range_end,
        limit=values.int("limit"),
        revision=max(values.int("rev"), 0),
        sort_order=order,
        sort_target=target,
        serializable=consistency == "s",
        keys_only=values.bool("keys-only"),
        count_only=values.bool("count-only"),
        min_create_revision=max(values.int("min-create-rev"), 0),
        max_create_revision=max(values.int("max-create-rev"), 0),
        min_mod_revision=max(values.int("min-mod-rev"), 0),
        max_mod_revision=max(values.int("max-mod-rev"), 0),
    )


def delete_request(values: Values, arguments: list[str]) -> rpc_pb2.DeleteRangeRequest:
    if len(arguments) not in (1, 2):
        raise bad_arguments("del command needs one argument as key and an optional argument as range_end")
    _refuse_prefix_and_from_key(values)
    key, range_end = _key_range(values, arguments)
    return rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=values.bool("prev-kv"))


def _lease(text: str) -> int:
    try:
        return parse_int(text, 16)
    except GoSyntaxError as error:
        raise bad_arguments(f"bad lease ID ({error}), expecting ID in Hex") from error


def _sort(values: Values) -> tuple[rpc_pb2.RangeRequest.SortOrder.ValueType, rpc_pb2.RangeRequest.SortTarget.ValueType]:
    order_text, target_text = values.string("order"), values.string("sort-by")
    order, target = _SORT_ORDERS.get(order_text.upper()), _SORT_TARGETS.get(target_text.upper())
    if order is None:
        raise CommandError(Exit.BAD_FEATURE, f"bad sort order {order_text}")
    if target is None:
        raise CommandError(Exit.BAD_FEATURE, f"bad sort target {target_text}")
    if target == Sort.KEY and order == rpc_pb2.RangeRequest.ASCEND:
        order = rpc_pb2.RangeRequest.NONE  # natural; a server that must sort reads all before it limits
    return order, target


def _check_revisions(values: Values, kind: str) -> None:
    low, high = (values.int(f"{bound}-{kind.lower()}-rev") for bound in ("min", "max"))
    if low > high > 0:
        raise CommandError(Exit.BAD_FEATURE, f"getMin{kind}Rev(={low}) > getMax{kind}Rev(={high})")


def _refuse_prefix_and_from_key(values: Values) -> None:
    if values.bool("prefix") and values.bool("from-key"):
        raise bad_arguments("`--prefix` and `--from-key` cannot be set at the same time, choose one")


def _key_range(values: Values, arguments: list[str]) -> tuple[bytes, bytes]:
    """Key and range_end; an empty key with --prefix or --from-key means all keys."""
    key = os.fsencode(arguments[0])
    prefix, from_key = values.bool("prefix"), values.bool("from-key")
    if not prefix and not from_key:
        return key, os.fsencode(arguments[1]) if len(arguments) > 1 else b""
    if len(arguments) > 1:
        raise bad_arguments("too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
    if from_key or not key:
        return key or _ALL_FROM, _ALL_FROM
    return key, prefix_end(key)


async def pause_before_range(session: Session, values: Values, arguments: list[str]) -> None:
    """Give the user time to interrupt `del a b`, which deletes a range and may be meant for two keys."""
    if len(arguments) > 1 and not values.bool("range"):
        start, end = (quote(os.fsencode(argument)) for argument in arguments[:2])
        session.warn(
            f"Warning: Keys between {start} and {end} will be deleted. Please interrupt the command within next "
            f"{_DELETE_PAUSE_SECONDS} seconds to cancel. You can provide `--range` flag to avoid the delay."
        )
        await asyncio.sleep(_DELETE_PAUSE_SECONDS)


async def _put(session: Session, arguments: list[str]) -> None:
    reads_stdin = len(arguments) == 1 and not session.values.bool("ignore-value")
    with interruptible():
        stdin = session.stdin.read() if reads_stdin else None
    request = put_request(session.values, arguments, stdin)
    printer = session.open()
    async with session.client() as client:
        printer.put(await client.kv.put(request))


async def _get(session: Session, arguments: list[str]) -> None:
    request = range_request(session.values, arguments)
    printer = session.open()
    async with session.client() as client:
        call = client.kv.range_stream if session.values.bool("stream") else client.kv.range
        response = await call(request)
    _check_display(session.values, printer)
    printer.get(response)


def _check_display(values: Values, printer: Printer) -> None:
    if values.bool("count-only") and printer.name != "fields":
        raise bad_arguments("--count-only is only for `--write-out=fields`")
    if values.bool("print-value-only"):
        if printer.name != "simple":
            raise bad_arguments("print-value-only is only for `--write-out=simple`")
        printer.value_only = True


async def _delete(session: Session, arguments: list[str]) -> None:
    request = delete_request(session.values, arguments)
    await pause_before_range(session, session.values, arguments)
    printer = session.open()
    async with session.client() as client:
        printer.delete(await client.kv.delete_range(request))


_PUT_ARGUMENTS = "put command needs 1 argument and input from stdin or 2 arguments"

PUT = Command(
    "put",
    "Set the value of a key",
    "[options] <key> <value>   (<value> can also be given from stdin)",
    (
        Flag("lease", "string", "0", "ID of a lease, in hexadecimal, to attach to the key"),
        Flag("prev-kv", "bool", False, "print the key and value that are replaced"),
        Flag("ignore-value", "bool", False, "keep the value; change the lease only"),
        Flag("ignore-lease", "bool", False, "keep the lease; change the value only"),
    ),
    _put,
    description="Put '--' before a value that begins with '-'.",
    examples=("tercetctl put greeting hello", "tercetctl put offset -- -5", "tercetctl put config < config.json"),
)

GET = Command(
    "get",
    "Read a key or a range of keys",
    "[options] <key> [range_end]",
    (
        Flag("consistency", "string", "l", "l: linearizable; s: serializable, from the member's own store", choices=("l", "s")),
        Flag("order", "string", "", "ASCEND or DESCEND; by default ASCEND", choices=("ASCEND", "DESCEND")),
        Flag("sort-by", "string", "", "sort by CREATE, KEY, MODIFY, VALUE or VERSION", choices=tuple(_SORT_TARGETS)[1:]),
        Flag("limit", "int", 0, "print at most so many keys"),
        Flag("prefix", "bool", False, "all keys that begin with the key"),
        Flag("from-key", "bool", False, "all keys from the key on, in byte order"),
        Flag("rev", "int", 0, "read the store as it was at this revision"),
        Flag("keys-only", "bool", False, "leave the values out"),
        Flag("count-only", "bool", False, "only count the keys; for -w fields"),
        Flag("print-value-only", "bool", False, "leave the keys out; for -w simple"),
        Flag("min-create-rev", "int", 0, "leave out keys created before this revision"),
        Flag("max-create-rev", "int", 0, "leave out keys created after this revision"),
        Flag("min-mod-rev", "int", 0, "leave out keys last modified before this revision"),
        Flag("max-mod-rev", "int", 0, "leave out keys last modified after this revision"),
        Flag("stream", "bool", False, "receive the range in parts (RangeStream), for large ranges"),
    ),
    _get,
    examples=(
        "tercetctl get greeting",
        "tercetctl get --prefix config/",
        "tercetctl get --prefix '' --keys-only --limit 10",
        "tercetctl get greeting --rev 4 -w fields",
    ),
)

DELETE = Command(
    "del",
    "Delete a key or a range of keys",
    "[options] <key> [range_end]",
    (
        Flag("prefix", "bool", False, "all keys that begin with the key"),
        Flag("prev-kv", "bool", False, "print the keys and values that are deleted"),
        Flag("from-key", "bool", False, "all keys from the key on, in byte order"),
        Flag("range", "bool", False, "delete [key, range_end) without a pause"),
    ),
    _delete,
    examples=("tercetctl del greeting", "tercetctl del --prefix config/", "tercetctl del --range a m"),
)
