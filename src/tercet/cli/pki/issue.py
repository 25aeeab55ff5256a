"""`tercet pki init-ca` and `gencert`: what `cfssl gencert` and `cfssljson -bare` do, from the same files.

Private keys go into files of mode 0600 and nowhere else: not to the screen, not into a pipe, not into an error. That is why the
JSON with which cfssl feeds cfssljson is not printed; the files are written at once, under the names that cfssljson gives them.
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
from tercet.cli.pki.input import FILE, PASSWORD_VARIABLE, LikeCfssl, load_signer, read_key, told_in_one_line
from tercet.errors import ConfigError
from tercet.pki.certificate import CertificateAndKey, is_ca, parse_certificates
from tercet.pki.cfssl_config import SigningConfig, read_config
from tercet.pki.cfssl_request import AuthorityWish, RequestFile, read_request
from tercet.pki.files import CERTIFICATE_MODE, KEY_MODE, write_all
from tercet.pki.issue import BACKDATE, Issued, Profile, init_ca, issue_as
from tercet.pki.keys import describe
from tercet.pki.names import hosts_of

_output = click.option(
    "-o",
    "--bare",
    "--output",
    "output",
    metavar="NAME",
    help="Write NAME.pem, NAME-key.pem and NAME.csr.  [default: the request's file name without `-csr.json`, or its CN]",
)
_force = click.option("--force", is_flag=True, help="Replace even the certificate and key of an authority.")
_write_out = click.option(
    "-w",
    "--write-out",
    type=click.Choice(["simple", "json"]),
    default="simple",
    show_default=True,
    help="json: cfssl's, with the certificate and the request, but never the key.",
)


@click.command("init-ca", cls=LikeCfssl)
@click.argument("csr_json", metavar="CSR.json")
@click.option("--ca-key", type=FILE, metavar="FILE", help="Keep this key instead of making one.")
@_output
@_force
@_write_out
def init_ca_command(csr_json: str, ca_key: Path | None, output: str | None, force: bool, write_out: str) -> None:
    """Make an authority (CA) from a request.

    The request `-` is read from stdin. What exists is not replaced without --force, since all that it signed would be refused.
    """
    with told_in_one_line():
        _init_ca(csr_json, ca_key, output, force, write_out)


@click.command("gencert", cls=LikeCfssl)
@click.argument("csr_json", metavar="CSR.json")
@click.option("--ca", type=FILE, metavar="FILE", help="Certificate of the authority that signs.")
@click.option("--ca-key", type=FILE, metavar="FILE", help=f"Its key; the password, if it has one, in ${PASSWORD_VARIABLE}.")
@click.option("--config", type=FILE, metavar="FILE", help="Profiles (ca-config.json).  [default: one for TLS, one year]")
@click.option("--profile", default="", metavar="NAME", help="The profile to sign with.  [default: the file's default]")
@click.option("--hostname", metavar="LIST", help="Hosts, separated by commas, in the place of the request's.")
@click.option("--initca", is_flag=True, help="Make an authority, as `tercet pki init-ca` does.")
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
    """Make a key and a certificate from a request.

    Takes cfssl's flags, with one dash or two, and writes what `cfssljson -bare NAME` would. The request `-` is read from stdin.
    """
    with told_in_one_line():
        if initca:
            for flag, value in (("--ca", ca), ("--config", config), ("--profile", profile), ("--hostname", hostname)):
                if value:
                    raise click.UsageError(f"{flag} and --initca cannot be given together: an authority signs itself")
            _init_ca(csr_json, ca_key, output, force, write_out)
            return
        if ca is None or ca_key is None:
            raise click.UsageError(
                f"{'--ca' if ca is None else '--ca-key'} is missing: who signs? (or --initca for an authority)"
            )
        wanted = _read_request(csr_json)
        if wanted.authority is not None:
            raise ConfigError(f"{_source(csr_json)}: has a section 'ca', which is for authorities only (init-ca)")
        request = wanted.request if hostname is None else replace(wanted.request, hosts=tuple(hostname.split(",")))
        granted = _profile(config, profile)
        name = _base_name(output, csr_json, request.common_name)
        _refuse_to_lose_an_authority(name, force)
        signer = load_signer(ca, ca_key)
        issued = issue_as(signer, request, granted)
        _write(name, issued)
        _warn(issued, signer)
        _say(name, issued, write_out)


def _init_ca(csr_json: str, ca_key: Path | None, output: str | None, force: bool, write_out: str) -> None:
    wanted = _read_request(csr_json)
    name = _base_name(output, csr_json, wanted.request.common_name)
    if ca_key is None:
        existing = next((path for path in _files(name)[:2] if path.exists()), None)
        if existing and not force:
            raise ConfigError(
                f"{existing} is there already; a new authority in its place would make worthless what it signed. "
                f"Choose another name (--bare), keep its key (--ca-key), or replace it (--force)"
            )
    wish = wanted.authority or AuthorityWish()
    issued = init_ca(
        wanted.request,
        wish.expiry,
        path_length=wish.path_length,
        backdate=wish.backdate or BACKDATE,
        key=None if ca_key is None else read_key(ca_key),
    )
    _write(name, issued, with_key=ca_key is None)
    _say(name, issued, write_out, with_key=ca_key is None)


def _source(csr_json: str) -> str:
    return "stdin" if csr_json == "-" else csr_json


def _read_request(csr_json: str) -> RequestFile:
    content = sys.stdin.buffer.read() if csr_json == "-" else Path(csr_json).read_bytes()
    return read_request(content, _source(csr_json))


def _profile(config: Path | None, name: str) -> Profile:
    if config is not None:
        return read_config(config.read_bytes(), str(config)).profile(name)
    return SigningConfig("without --config", Profile(), {}).profile(name)


def _base_name(output: str | None, csr_json: str, common_name: str) -> str:
    """Where cfssljson's `-bare NAME` would write: `etcd` for etcd-csr.json, or the CN for what comes from stdin."""
    if output:
        return output
    if csr_json != "-":
        return re.sub(r"[-_.]csr$", "", Path(csr_json).name.removesuffix(".json")) or "cert"
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", common_name).strip("-.") or "cert"


def _files(name: str) -> tuple[Path, Path, Path]:
    """Certificate, key, request."""
    return Path(f"{name}.pem"), Path(f"{name}-key.pem"), Path(f"{name}.csr")


def _refuse_to_lose_an_authority(name: str, force: bool) -> None:
    certificate, key, _ = _files(name)
    if force or not certificate.exists():
        return
    try:
        is_authority = is_ca(parse_certificates(certificate.read_bytes(), certificate)[0])
    except ConfigError:
        return
    if is_authority:
        raise ConfigError(
            f"{certificate} is the certificate of an authority; it and {key} would be replaced. "
            f"Choose another name (--bare), or replace them (--force)"
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
    """What is legal and yet hardly meant."""
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    if not hosts_of(certificate) and not is_ca(certificate):
        click.echo("Warning: it is for no host (`hosts` is empty), so only clients can use it", err=True)
    if text := view.outlived(certificate, signer.certificate):
        click.echo(text, err=True)


def _say(name: str, issued: Issued, write_out: str, *, with_key: bool = True) -> None:
    if write_out == "json":
        click.echo(json.dumps({"cert": issued.certificate.decode(), "csr": issued.request.decode()}))
        return
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    paths = [str(path) for path in _files(name)]
    lines = [
        (paths[0], view.summary(certificate, datetime.now(UTC))),
        *(
            [(paths[1], f"its private key ({describe(certificate.public_key())}), for its owner's eyes only")]
            if with_key
            else []
        ),
        (paths[2], "the request"),
    ]
    click.echo(view.written(lines), nl=False)
