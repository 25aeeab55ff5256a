"""`tercet`: runs a member with etcd's flags, or one of the sub-commands that etcd does not have.

    tercet --name n1 --data-dir /var/lib/etcd ...     a member, as a unit file for etcd starts it
    tercet up                                         a whole cluster with TLS on this host
    tercet deploy apply                               a cluster on hosts of its own, from one file
    tercet pki gencert etcd-csr.json ...              certificates, as cfssl makes them
    tercet bench put                                  a load generator
    tercet sim                                        the simulator
Only the first word decides, so that no flag of etcd can be taken for a sub-command. Each is imported when it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

_COMMANDS = {
    "up": "run a cluster with TLS on this host, until Ctrl-C",
    "deploy": "put a cluster on hosts with systemd, over SSH, from one file",
    "pki": "make, show, check and renew certificates, from cfssl's files",
    "bench": "generate load and show throughput and latencies",
    "sim": "run the simulator: many clusters, broken on purpose, by a seed",
    "version": "print the versions of tercet and of the etcd it behaves like",
    "help": "print this page",
}

_COMMAND_MODULES = {
    "up": "tercet.cli.up.command",
    "deploy": "tercet.cli.deploy.command",
    "pki": "tercet.cli.pki.command",
    "bench": "tercet.cli.bench",
    "sim": "tercet.cli.simulate",
}

# Optional packages, and the extra that installs each.
_EXTRAS = {"asyncssh": "deploy", "pydantic": "deploy", "pydantic_core": "deploy"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code is etcd's for a member, click's for the sub-commands."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    first = line[0] if line else ""
    if first == "version":
        return _print_version()
    if first == "help":
        return main([*line[1:2], "--help"])
    if first in _COMMAND_MODULES:
        return _run_click(first, line[1:])
    if first in ("-h", "--help", "-help"):
        sys.stdout.write(_commands_help())
    elif first and not first.startswith("-"):
        _suggest(first)
    from tercet.server.main import main as server_main

    return server_main(line)


def _suggest(word: str) -> None:
    """A word that is no sub-command is refused by the server, which knows only flags; so the hint comes from here."""
    near = get_close_matches(word, _COMMANDS, n=1)
    if near:
        sys.stderr.write(f"tercet: there is no command {word!r}; did you mean `tercet {near[0]}`?\n")


def _print_version() -> int:
    from tercet import __version__
    from tercet.version import ETCD_VERSION, is_compiled

    sys.stdout.write(f"tercet version: {__version__}\netcd version: {ETCD_VERSION}\n")
    sys.stdout.write(f"core: {'compiled' if is_compiled() else 'sources, not compiled'}\n")
    return 0


def _commands_help() -> str:
    rows = "".join(f"  tercet {name:<8} {summary}\n" for name, summary in _COMMANDS.items())
    return f"Sub-commands (`tercet COMMAND --help` tells more):\n\n{rows}\nWithout one, a member runs, with etcd's flags:\n\n"


def _run_click(name: str, line: list[str]) -> int:
    try:
        return _run_loaded(name, line)
    except KeyboardInterrupt:  # click sees it while a command runs, not while its modules are loaded
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
