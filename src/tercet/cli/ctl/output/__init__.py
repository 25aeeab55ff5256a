"""Output formats, one file each; `make_printer` imports and returns the one that --write-out names."""

from importlib import import_module

from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.output.printer import EndpointHash, EndpointHealth, EndpointStatus, Field, Printer, Shown, Sink

__all__ = [
    "EndpointHash",
    "EndpointHealth",
    "EndpointStatus",
    "Field",
    "Printer",
    "Shown",
    "Sink",
    "make_printer",
]

_PRINTERS = {
    "simple": "simple:SimplePrinter",
    "fields": "fields:FieldsPrinter",
    "json": "json:JsonPrinter",
    "table": "table:TablePrinter",
    "protobuf": "protobuf:ProtobufPrinter",
}


def make_printer(name: str, out: Sink, err: Sink, *, is_hex: bool) -> Printer:
    """Raises CommandError (exit 4) for an unknown format."""
    if name not in _PRINTERS:
        raise CommandError(Exit.BAD_FEATURE, "unsupported output format")
    module, _, kind = _PRINTERS[name].partition(":")
    printer: Printer = getattr(import_module(f"tercet.cli.ctl.output.{module}"), kind)(out, err, is_hex)
    return printer
