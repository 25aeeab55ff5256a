"""`tercet`: a member with etcd's flags, or a subcommand.

    tercet --name n1 --data-dir /var/lib/etcd ...     a member, started as a unit file starts etcd
    tercet up                                         a cluster with TLS on this host
    tercet deploy apply                               a cluster on other hosts, from one file
    tercet pki gencert etcd-csr.json ...              certificates, from cfssl's files
    tercet bench put                                  a load generator
    tercet sim                                        the simulator
    tercet metrics rules                              alert rules for Prometheus, and a dashboard for Grafana

A subcommand must be the first word, so that no value of a flag is taken for one. Modules are imported on use.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from tercet.cli.streams import discard, is_output_error, open_missing_streams, write_error_text

_COMMANDS = {
    "up": "run a cluster with TLS on this host until Ctrl-C",
    "deploy": "deploy a cluster to hosts with systemd, over SSH, from one file",
    "pki": "create, show, verify and renew certificates, from cfssl's files",
    "bench": "generate load and measure throughput and latency",
    "sim": "simulate clusters under faults, reproducible by seed",
    "metrics": "print Prometheus rules and a Grafana dashboard",
    "version": "print the versions of tercet and of the etcd API",
    "help": "print this help",
}

_COMMAND_MODULES = {
    "up": "tercet.cli.up.command",
    "deploy": "tercet.cli.deploy.command",
    "pki": "tercet.cli.pki.command",
    "bench": "tercet.cli.bench",
    "sim": "tercet.cli.simulate",
    "metrics": "tercet.cli.metrics.command",
}

# Fewer than in cli/start.py: `bench` measures latencies, and a collection of so many objects takes 2 ms.
_OBJECTS_BETWEEN_COLLECTIONS = 20_000

# Optional packages, and the extra that installs each.
_EXTRAS = {"asyncssh": "deploy", "pydantic": "deploy", "pydantic_core": "deploy"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line. Returns the exit code: etcd's for a member, click's for a subcommand."""
    open_missing_streams()
    line = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and not _prints(line) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # until a member's loop handles it: before, there is nothing to stop in order
    try:
        code = _run(line)
        sys.stdout.flush()
    except OSError as error:
        if not is_output_error(error) or not _prints(line):
            raise
        discard(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"Error: {write_error_text('stdout', error)}\n")
        return 1
    return code


def _prints(line: list[str]) -> bool:
    """Whether the command line prints and ends; a member logs."""
    return line[:1] in ([name] for name in (*_COMMANDS, "-h", "--help", "-help", "--version", "-version"))


def _run(line: list[str]) -> int:
    first = line[0] if line else ""
    if first == "version":
        return _print_version()
    if first == "help":
        return _help(line[1:2])
    if first in _COMMAND_MODULES:
        return _run_click(first, line[1:])
    if first in ("-h", "--help", "-help"):
        sys.stdout.write(_commands_help())
    elif first and not first.startswith("-"):
        _say_unknown(first)
    gc.disable()  # its passes over the objects of imports are a tenth of the start; the server enables it again
    from tercet.server.main import main as server_main

    return server_main(line)


def _help(topic: list[str]) -> int:
    if topic and topic[0] not in _COMMANDS:
        _say_unknown(topic[0])
        return 1
    return _run([*topic, "--help"])


def _say_unknown(word: str) -> None:
    """For a member the server then rejects the word, since it knows only flags."""
    from difflib import get_close_matches

    near = get_close_matches(word, _COMMANDS, n=1)
    hint = f"did you mean `tercet {near[0]}`?" if near else "see `tercet help`"
    sys.stderr.write(f"tercet: unknown command {word!r}; {hint}\n")


def _print_version() -> int:
    from tercet import __version__
    from tercet.version import ETCD_VERSION, is_compiled

    sys.stdout.write(f"tercet version: {__version__}\netcd version: {ETCD_VERSION}\n")
    sys.stdout.write(f"core: {'compiled' if is_compiled() else 'not compiled'}\n")
    return 0


def _commands_help() -> str:
    rows = "".join(f"  tercet {name:<8} {summary}\n" for name, summary in _COMMANDS.items())
    return f"Commands (see `tercet COMMAND --help`):\n\n{rows}\nWithout a command, tercet runs a member with etcd's flags:\n\n"


def _run_click(name: str, line: list[str]) -> int:
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        return _run_loaded(name, line)
    except KeyboardInterrupt:  # raised while modules are imported; click handles it while a command runs
        return 130


def _run_loaded(name: str, line: list[str]) -> int:
    import click

    command: click.Command = import_module(_COMMAND_MODULES[name]).command
    try:
        result = command.main(args=line, prog_name=f"tercet {name}", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        remedy = f"install it with: pip install 'tercet[{extra}]'"
        sys.stderr.write(f"Error: `tercet {name}` needs {error.name}, which is not installed; {remedy}\n")
        return 1
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
