"""Input of `tercet pki`: cfssl-style flags, files, certificates of servers, CA keys and passwords."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tercet.errors import ConfigError
from tercet.pki.certificate import CertificateAndKey, load_ca
from tercet.pki.keys import PrivateKey, from_pem

PASSWORD_VARIABLE = "CFSSL_CA_PK_PASSWORD"
FILE = click.Path(path_type=Path, dir_okay=False)
_ENDPOINT = re.compile(r"(?:https://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})/?")
_CONNECT_SECONDS = 5.0
_READER_SECONDS = 0.5


class LikeCfssl(click.Command):
    """Accepts long flags with one dash (`-ca-key=FILE`, `-initca`), like Go programs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add the second dash to this command's flags."""
        known = {name for option in self.params for name in option.opts}
        switches = {
            name for option in self.params if isinstance(option, click.Option) and option.is_flag for name in option.opts
        }
        end = args.index("--") if "--" in args else len(args)
        for index, word in enumerate(args[:end]):
            name, sign, value = word.partition("=")
            if f"-{name}" in known and len(name) > 2 and not name.startswith("--"):
                args[index] = f"-{name}" if f"-{name}" in switches and value == "true" else f"-{name}{sign}{value}"
        return super().parse_args(ctx, args)


@contextmanager
def click_errors() -> Iterator[None]:
    """Convert ConfigError and OSError to ClickException: one line and exit code 1."""
    try:
        yield
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error


def is_piped_to(program: str) -> bool:
    """Whether the reader of stdout is a process of this program. Linux only; elsewhere False."""
    deadline = time.monotonic() + _READER_SECONDS
    try:
        pipe = os.readlink("/proc/self/fd/1")
        while pipe.startswith("pipe:"):
            if any(_holds(process, pipe) for process in Path("/proc").iterdir() if _name(process) == program):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)  # the shell may not have started it yet
    except OSError:
        pass
    return False


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip() if process.name.isdigit() else ""
    except OSError:  # it has exited
        return ""


def _holds(process: Path, pipe: str) -> bool:
    try:
        return os.readlink(process / "fd" / "0") == pipe
    except OSError:
        return False


def endpoint(text: str) -> tuple[str, int] | None:
    """Host and port of `HOST:PORT`; None for other texts, and for existing files."""
    found = _ENDPOINT.fullmatch(text)
    if found is None or Path(text).exists():
        return None
    return found["host"].strip("[]"), int(found["port"])


def read_or_fetch(source: str) -> bytes:
    """The certificates in a file, or the certificate of a server (PEM). Raises ConfigError, OSError."""
    server = endpoint(source)
    if server is None:
        return Path(source).read_bytes()
    try:
        return ssl.get_server_certificate(server, timeout=_CONNECT_SECONDS).encode()
    except ssl.SSLError as error:
        raise ConfigError(f"{source}: TLS handshake failed: {_tls_reason(error)}") from error
    except (OSError, OverflowError) as error:
        raise ConfigError(f"{source}: cannot connect: {getattr(error, 'strerror', None) or error}") from error


def _tls_reason(error: ssl.SSLError) -> str:
    if error.reason in ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE"):
        return "the server does not use TLS (plain HTTP?)"
    return str(error.reason or error)


def load_signer(ca: Path, ca_key: Path) -> CertificateAndKey:
    _warn_if_readable_by_others(ca_key)
    return load_ca(ca, ca_key, password=_password())


def read_key(path: Path) -> PrivateKey:
    _warn_if_readable_by_others(path)
    return from_pem(path.read_bytes(), path, password=_password())


def _password() -> bytes | None:
    return os.environ.get(PASSWORD_VARIABLE, "").encode() or None


def _warn_if_readable_by_others(key: Path) -> None:
    if key.exists() and key.stat().st_mode & 0o077:
        click.echo(f"Warning: {key} is readable by others; run chmod 600 {key}", err=True)
