"""`tercet pki show`, `verify` and `renew`: display, verify and renew certificates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tercet.cli.pki import view
from tercet.cli.pki.input import FILE, LikeCfssl, click_errors, endpoint, load_signer, read_key, read_or_fetch
from tercet.errors import ConfigError
from tercet.pki.certificate import is_ca, load_pair, parse_certificates
from tercet.pki.explain import Usage, explain
from tercet.pki.files import CERTIFICATE_MODE, KEY_MODE, write_all
from tercet.pki.issue import Issued, renew
from tercet.pki.keys import describe
from tercet.pki.names import short_text


@click.command("show", cls=LikeCfssl)
@click.argument("source", metavar="FILE|HOST:PORT")
@click.option("-w", "--write-out", type=click.Choice(["simple", "json"]), default="simple", show_default=True)
def show(source: str, write_out: str) -> None:
    """Show the certificates in a file, or the certificate of a server."""
    with click_errors():
        found = parse_certificates(read_or_fetch(source), source)
    now = datetime.now(UTC)
    if write_out == "json":
        click.echo(json.dumps([view.facts(certificate, now) for certificate in found], indent=2))
    else:
        click.echo("\n".join(view.page(certificate, now) for certificate in found), nl=False)


@click.command("verify", cls=LikeCfssl)
@click.argument("source", metavar="FILE|HOST:PORT")
@click.option("--ca", type=FILE, required=True, metavar="FILE", help="Trusted CAs.")
@click.option("--host", metavar="NAME", help="Name or address to verify.  [default: HOST]")
@click.option("--usage", type=click.Choice(["server", "client"]), help="Role to verify.  [default: server, for HOST:PORT]")
@click.option("--key", type=FILE, metavar="FILE", help="Private key that must match.")
def verify(source: str, ca: Path, host: str | None, usage: Usage | None, key: Path | None) -> int:
    """Verify whether clients and servers would accept a certificate.

    If they would not, all reasons are printed, and the exit code is 1.
    """
    with click_errors():
        pem = read_or_fetch(source)
        server = endpoint(source)
        if server is not None:
            host, usage = host or server[0], usage or "server"
        problems = explain(
            pem, ca_pem=ca.read_bytes(), host=host, usage=usage, key_pem=None if key is None else key.read_bytes()
        )
    if problems:
        for problem in problems:
            click.echo(f"{source}: {problem}", err=True)
        return 1
    certificate = parse_certificates(pem, source)[0]
    signer = short_text(certificate.issuer)
    click.echo(f"{source} is valid: {view.summary(certificate, datetime.now(UTC))}; signed by {signer}")
    return 0


@click.command("renew", cls=LikeCfssl)
@click.argument("certificate_path", type=FILE, metavar="CERT")
@click.option("--ca", type=FILE, metavar="FILE", help="Certificate of the signing CA; not for a self-signed CA.")
@click.option("--ca-key", type=FILE, required=True, metavar="FILE", help="Key of the CA.")
@click.option("--key", "key_path", type=FILE, metavar="FILE", help="Key of CERT.  [default: NAME-key.pem or NAME.key]")
@click.option("--keep-key", is_flag=True, help="Keep the key instead of generating a new one.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Lifetime from now.  [default: the same as before]")
def renew_command(
    certificate_path: Path, ca: Path | None, ca_key: Path, key_path: Path | None, keep_key: bool, days: float | None
) -> None:
    """Renew a certificate.

    The new one has the same names and usages, and a new key of the same type. The files are replaced atomically and keep their
    owners.
    """
    with click_errors():
        certificate_path.stat()  # an error names the path as it was given; that of resolve() need not, from Python 3.14 on
        path = certificate_path.resolve()
        shown_key = key_path or _key_beside(certificate_path)
        key_file = shown_key.resolve()
        old, *between = parse_certificates(path.read_bytes(), certificate_path)
        expiry = None if days is None else timedelta(days=days)
        if ca is None or ca.resolve() == path:
            shown_key = ca_key
            issued = _renew_authority(certificate_path, old, ca_key, keep_key, expiry)
        else:
            signer = load_signer(ca, ca_key)
            key = load_pair(path, key_file).key if keep_key else None
            issued = renew(old, signer, key=key, expiry=expiry)
            if text := view.outlived(x509.load_pem_x509_certificate(issued.certificate), signer.certificate):
                click.echo(text, err=True)
        _replace(path, key_file, issued, between, keep_key=keep_key)
    new = x509.load_pem_x509_certificate(issued.certificate)
    if new.issuer != old.issuer:
        click.echo(f"Warning: the issuer changed from {short_text(old.issuer)} to {short_text(new.issuer)}", err=True)
    about_key = "kept" if keep_key else f"new private key ({describe(new.public_key())})"
    lines = [(str(certificate_path), view.summary(new, datetime.now(UTC))), (str(shown_key), about_key)]
    click.echo(view.written(lines), nl=False)


def _renew_authority(path: Path, old: x509.Certificate, ca_key: Path, keep_key: bool, expiry: timedelta | None) -> Issued:
    """Renew a self-signed CA."""
    if not is_ca(old) or old.issuer != old.subject:
        raise click.UsageError(f"--ca is required: {path} is not self-signed")
    if not keep_key:
        raise ConfigError(f"{path} is a CA: with a new key all certificates that it signed become invalid; pass --keep-key")
    key = read_key(ca_key)
    if key.public_key() != old.public_key():
        raise ConfigError(f"{ca_key} is not the key of {path}")
    return renew(old, None, key=key, expiry=expiry)


def _key_beside(path: Path) -> Path:
    """The key file of a certificate: cfssljson's `NAME-key.pem`, or `NAME.key` of `tercet up`."""
    return path.with_suffix(".key") if path.suffix == ".crt" else path.with_name(f"{path.stem}-key{path.suffix}")


def _replace(path: Path, key_file: Path, issued: Issued, between: Sequence[x509.Certificate], *, keep_key: bool) -> None:
    """between: intermediate CAs in the certificate file, which are kept."""
    if not keep_key and not key_file.exists():
        raise ConfigError(f"{key_file}: no such file; set the key with --key")
    request = path.with_suffix(".csr")
    files = [] if keep_key else [(key_file, issued.key, KEY_MODE)]
    chain = b"".join(authority.public_bytes(Encoding.PEM) for authority in between)
    files.append((path, issued.certificate + chain, CERTIFICATE_MODE))
    if request.exists():
        files.append((request, issued.request, CERTIFICATE_MODE))
    write_all(files, keep_owners=True)
