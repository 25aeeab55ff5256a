"""One SSH login. Converts asyncssh's errors to HostError with a cause and a remedy."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Sequence

import asyncssh
from asyncssh.public_key import get_default_certificate_algs, get_default_public_key_algs

from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.identities import Offer
from tercet.deploy.ssh.known_hosts import HostKeyCheck
from tercet.deploy.ssh.target import Target

STEP = "connect"
# ssh's order for unknown hosts, so that the displayed fingerprint is the one that ssh would show.
_FIRST_KINDS = (b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521")


async def log_in(
    target: Target, offer: Offer, *, host: str, tunnel: asyncssh.SSHClientConnection | None, accept_new: bool
) -> asyncssh.SSHClientConnection:
    """Log in to `target`, verifying its host key, with one of the offered keys. Raises HostError.

    host: the member, for errors. tunnel: connection to the jump host.
    """
    check = HostKeyCheck(target.known_hosts, target.known_as, target.port, accept_new=accept_new)
    keys, authorities, revoked = check.trusted()
    algorithms = () if target.has_host_key_algorithms else _algorithms(keys, with_certificates=bool(authorities))
    try:
        return await asyncssh.connect(
            target.name,
            options=target.options,
            tunnel=tunnel,  # None disables asyncssh's own ProxyJump, which would bypass these checks
            client_factory=lambda: _Client(check),
            known_hosts=(keys, authorities, revoked),
            server_host_key_algs=algorithms,
            client_keys=offer.keys or None,
        )
    except (OSError, ValueError, asyncssh.Error) as error:
        text, remedy = _explain(error, target, offer, check)
        raise HostError(host, STEP, text, remedy=remedy) from error


def _algorithms(known: Sequence[asyncssh.SSHKey], *, with_certificates: bool) -> list[str]:
    """Host key algorithms to request: known ones first, so that a host with several keys presents a known one.

    The others follow, so that a changed key type is reported as a changed host key. Certificate algorithms are requested only
    if known_hosts has a certificate authority.
    """
    kinds = [kind for key in known for kind in key.sig_algorithms]
    kinds += [*_FIRST_KINDS, *get_default_public_key_algs()]
    kinds = [*(get_default_certificate_algs() if with_certificates else []), *kinds]
    return [kind.decode() for kind in dict.fromkeys(kinds)]


class _Client(asyncssh.SSHClient):
    """asyncssh calls it with a host key that is not among the trusted ones."""

    def __init__(self, check: HostKeyCheck) -> None:
        self._check = check

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self._check.accept(key)


def _explain(error: Exception, target: Target, offer: Offer, check: HostKeyCheck) -> tuple[str, str]:
    """Cause and remedy."""
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return _host_key(error, check)
        case asyncssh.PermissionDenied():
            remedy = (
                f"add a public key to ~{target.user}/.ssh/authorized_keys on the host (ssh-copy-id), or set ssh.user or ssh.key"
            )
            return f"permission denied for {target}: {offer.summary()}", remedy
        case asyncssh.ChannelOpenError():
            return f"cannot reach {target.host} port {target.port} from there: {error.reason}", "check that the host is up"
        case TimeoutError():
            seconds = target.options.connect_timeout
            return (
                f"no answer from {target.host} port {target.port} within {seconds:g} s",
                "check that the host is up and its address is right",
            )
        case OSError() if _os_reason(error) == os.strerror(errno.ECONNREFUSED):
            return f"{target.host} port {target.port}: connection refused", "check that sshd listens on this port"
        case socket.gaierror():
            return f"cannot resolve host name {target.host}", "set ssh.host to its address"
        case asyncssh.ConnectionLost() | ConnectionResetError():
            return f"{target} closed the connection during login", "check journalctl -u ssh on the host"
        case OSError():
            return f"cannot reach {target.host} port {target.port}: {_os_reason(error)}", "check the address"
        case asyncssh.DisconnectError():
            return f"{target} disconnected during login: {error.reason}", ""
    return f"cannot log in to {target}: {error}", ""


def _os_reason(error: OSError) -> str:
    """The system's text. asyncio has its own: "Connect call failed (...)", or one text for all addresses of a name."""
    numbers = [error.errno] if error.errno else [int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))]
    return ", ".join(dict.fromkeys(map(os.strerror, numbers))) or str(error)


def _host_key(error: asyncssh.HostKeyNotVerifiable, check: HostKeyCheck) -> tuple[str, str]:
    if not check.problem and check.known.revoked:
        check.refuse_revoked()
    return check.problem or f"host key verification failed: {error.reason}", check.remedy
