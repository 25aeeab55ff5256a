"""`tercet pki init-ca` and `gencert`: equivalents of `cfssl gencert | cfssljson -bare`, from the same files.

Private keys are written to files of mode 0600 and never to the screen or an error. The files are written directly, under
cfssljson's names. Only if stdout is a pipe to cfssljson itself, so that a command line for cfssl works with `tercet pki` in its
place, the output is cfssl's JSON with the key, and cfssljson writes the files.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography import x509

from tercet.cli.pki import view
from tercet.cli.pki.input import FILE, PASSWORD_VARIABLE, LikeCfssl, click_errors, is_piped_to, load_signer, read_key
from tercet.errors import ConfigError
from tercet.pki.certificate import CertificateAndKey, is_ca, parse_certificates
from tercet.pki.cfssl_config import SigningConfig, read_config
from tercet.pki.cfssl_request import CARequest, RequestFile, read_request
from tercet.pki.files import CERTIFICATE_MODE, KEY_MODE, write_all
from tercet.pki.issue import BACKDATE, Issued, Profile, init_ca, issue_as
from tercet.pki.keys import describe
from tercet.pki.names import alternative_names, hosts_of

CFSSLJSON = "cfssljson"
_output = click.option(
    "-o",
    "--bare",
    "--output",
    "output",
    metavar="NAME",
    help="Write NAME.pem, NAME-key.pem and NAME.csr.  [default: the request's file name without `-csr.json`, or its CN]",
)
_force = click.option("--force", is_flag=True, help="Replace the certificate and key of a CA.")
_write_out = click.option(
    "-w",
    "--write-out",
    type=click.Choice(["simple", "json"]),
    default="simple",
    show_default=True,
    help="Output format; json has cfssl's `cert` and `csr`, but not the key.",
)


@click.command("init-ca", cls=LikeCfssl)
@click.argument("csr_json", metavar="CSR.json")
@click.option("--ca-key", type=FILE, metavar="FILE", help="Use this key instead of generating one.")
@_output
@_force
@_write_out
def init_ca_command(csr_json: str, ca_key: Path | None, output: str | None, force: bool, write_out: str) -> None:
    """Create a CA from a request.

    `-` reads the request from stdin. An existing CA is replaced only with --force, since all certificates that it signed become
    invalid.
    """
    with click_errors():
        _init_ca(csr_json, ca_key, output, force, write_out)


@click.command("gencert", cls=LikeCfssl)
@click.argument("csr_json", metavar="CSR.json")
@click.option("--ca", type=FILE, metavar="FILE", help="Certificate of the signing CA.")
@click.option(
    "--ca-key", type=FILE, metavar="FILE", help=f"Key of the CA; its password, if any, is read from ${PASSWORD_VARIABLE}."
)
@click.option("--config", type=FILE, metavar="FILE", help="Signing profiles (ca-config.json).  [default: TLS, one year]")
@click.option("--profile", default="", metavar="NAME", help="Signing profile.  [default: signing.default of the file]")
@click.option("--hostname", metavar="LIST", help="Comma-separated hosts that replace those of the request.")
@click.option("--initca", is_flag=True, help="Create a CA, like `tercet pki init-ca`.")
@_output
@_force
@_write_out
def gencert(
    csr_json: str,
    ca: Path | None,
    ca_key: Path | None,
    config: Path | None,
    profile: str,
    hostname: str | None,
    initca: bool,
    output: str | None,
    force: bool,
    write_out: str,
) -> None:
    """Create a key and a certificate from a request.

    Accepts cfssl's flags, with one dash or two, and writes the files of `cfssljson -bare NAME`. `-` reads the request from
    stdin.
    """
    with click_errors():
        if initca:
            for flag, value in (("--ca", ca), ("--config", config), ("--profile", profile), ("--hostname", hostname)):
                if value:
                    raise click.UsageError(f"{flag} and --initca cannot be combined: a CA is self-signed")
            _init_ca(csr_json, ca_key, output, force, write_out)
            return
        if ca is None or ca_key is None:
            raise click.UsageError(f"{'--ca' if ca is None else '--ca-key'} is required (or --initca to create a CA)")
        parsed = _read_request(csr_json)
        if parsed.authority is not None:
            raise ConfigError(f"{_source(csr_json)}: the key 'ca' is for CAs only (init-ca)")
        request = parsed.request if hostname is None else replace(parsed.request, hosts=_hosts(hostname))
        granted = _profile(config, profile)
        name = _base_name(output, csr_json, request.common_name)
        for_cfssljson = output is None and is_piped_to(CFSSLJSON)
        if not for_cfssljson:
            _require_not_ca(name, force)
        signer = load_signer(ca, ca_key)
        issued = issue_as(signer, request, granted)
        if for_cfssljson:
            _warn(issued, signer)
            _print_for_cfssljson(issued)
            return
        _write(name, issued)
        _warn(issued, signer)
        _print(name, issued, write_out)


def _init_ca(csr_json: str, ca_key: Path | None, output: str | None, force: bool, write_out: str) -> None:
    parsed = _read_request(csr_json)
    name = _base_name(output, csr_json, parsed.request.common_name)
    for_cfssljson = output is None and is_piped_to(CFSSLJSON)
    if ca_key is None and not for_cfssljson:
        existing = next((path for path in _files(name)[:2] if path.exists()), None)
        if existing and not force:
            raise ConfigError(
                f"{existing} already exists, and replacing the CA makes all certificates that it signed invalid; "
                f"set another name (--bare), keep its key (--ca-key), or replace it (--force)"
            )
    ca_request = parsed.authority or CARequest()
    try:
        parsed.request.require_subject()
    except ConfigError as error:
        raise ConfigError(f"{_source(csr_json)}: CN: {error}") from error
    issued = init_ca(
        parsed.request,
        ca_request.expiry,
        path_length=ca_request.path_length,
        backdate=ca_request.backdate or BACKDATE,
        key=None if ca_key is None else read_key(ca_key),
    )
    if for_cfssljson:
        _print_for_cfssljson(issued)
        return
    _write(name, issued, with_key=ca_key is None)
    _print(name, issued, write_out, with_key=ca_key is None)


def _source(csr_json: str) -> str:
    return "stdin" if csr_json == "-" else csr_json


def _read_request(csr_json: str) -> RequestFile:
    content = sys.stdin.buffer.read() if csr_json == "-" else Path(csr_json).read_bytes()
    parsed = read_request(content, _source(csr_json))
    for warning in parsed.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return parsed


def _hosts(hostname: str) -> tuple[str, ...]:
    """The value of --hostname. Raises ConfigError."""
    hosts = tuple(hostname.split(","))
    try:
        alternative_names(hosts)
    except ConfigError as error:
        raise ConfigError(f"--hostname: {error}") from error
    return hosts


def _print_for_cfssljson(issued: Issued) -> None:
    content = {"cert": issued.certificate.decode(), "key": issued.key.decode(), "csr": issued.request.decode()}
    click.echo(json.dumps(content))


def _profile(config: Path | None, name: str) -> Profile:
    if config is not None:
        return read_config(config.read_bytes(), str(config)).profile(name)
    return SigningConfig("without --config", Profile(), {}).profile(name)


def _base_name(output: str | None, csr_json: str, common_name: str) -> str:
    """The NAME of `cfssljson -bare NAME`: by default `etcd` for etcd-csr.json, or the CN for stdin."""
    if output:
        return output
    if csr_json != "-":
        return re.sub(r"[-_.]csr$", "", Path(csr_json).name.removesuffix(".json")) or "cert"
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", common_name).strip("-.") or "cert"


def _files(name: str) -> tuple[Path, Path, Path]:
    """Certificate, key, request."""
    return Path(f"{name}.pem"), Path(f"{name}-key.pem"), Path(f"{name}.csr")


def _require_not_ca(name: str, force: bool) -> None:
    certificate, key, _ = _files(name)
    if force or not certificate.exists():
        return
    try:
        is_authority = is_ca(parse_certificates(certificate.read_bytes(), certificate)[0])
    except ConfigError:
        return
    if is_authority:
        raise ConfigError(
            f"{certificate} is a CA certificate; it and {key} would be replaced. "
            f"Set another name (--bare), or replace them (--force)"
        )


def _write(name: str, issued: Issued, *, with_key: bool = True) -> None:
    certificate, key, request = _files(name)
    files = [
        *([(key, issued.key, KEY_MODE)] if with_key else []),
        (certificate, issued.certificate, CERTIFICATE_MODE),
        (request, issued.request, CERTIFICATE_MODE),
    ]
    write_all(files)


def _warn(issued: Issued, signer: CertificateAndKey) -> None:
    """Warn of valid but probably unintended settings."""
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    if not hosts_of(certificate) and not is_ca(certificate):
        click.echo("Warning: `hosts` is empty, so the certificate is valid for clients only", err=True)
    if text := view.outlived(certificate, signer.certificate):
        click.echo(text, err=True)


def _print(name: str, issued: Issued, write_out: str, *, with_key: bool = True) -> None:
    if write_out == "json":
        click.echo(json.dumps({"cert": issued.certificate.decode(), "csr": issued.request.decode()}))
        return
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    paths = [str(path) for path in _files(name)]
    lines = [
        (paths[0], view.summary(certificate, datetime.now(UTC))),
        *([(paths[1], f"private key ({describe(certificate.public_key())}), mode 0600")] if with_key else []),
        (paths[2], "certificate request"),
    ]
    click.echo(view.written(lines), nl=False)
