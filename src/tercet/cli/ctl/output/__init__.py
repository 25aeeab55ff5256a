"""Output formats, one file each; `make_printer` returns the one that --write-out names."""

from collections.abc import Callable

from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.output.fields import FieldsPrinter
from tercet.cli.ctl.output.json import JsonPrinter
from tercet.cli.ctl.output.printer import EndpointHash, EndpointHealth, EndpointStatus, Field, Printer, Shown, Sink
from tercet.cli.ctl.output.protobuf import ProtobufPrinter
from tercet.cli.ctl.output.simple import SimplePrinter
from tercet.cli.ctl.output.table import TablePrinter

__all__ = [
    "EndpointHash",
    "EndpointHealth",
    "EndpointStatus",
    "Field",
    "Printer",
    "Shown",
    "SimplePrinter",
    "Sink",
    "make_printer",
]

_PRINTERS: dict[str, Callable[[Sink, Sink, bool], Printer]] = {
    "simple": SimplePrinter,
    "fields": FieldsPrinter,
    "json": JsonPrinter,
    "table": TablePrinter,
    "protobuf": ProtobufPrinter,
}


def make_printer(name: str, out: Sink, err: Sink, *, is_hex: bool) -> Printer:
    """Raises CommandError (exit 4) for an unknown format."""
    if name not in _PRINTERS:
        raise CommandError(Exit.BAD_FEATURE, "unsupported output format")
    return _PRINTERS[name](out, err, is_hex)
