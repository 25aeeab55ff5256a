"""One login over SSH, and what to tell the operator when it fails: the one place where asyncssh's errors are put in words."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import asyncssh
from asyncssh.public_key import get_default_certificate_algs, get_default_public_key_algs

from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.identities import Offer
from tercet.deploy.ssh.known_hosts import HostKeyCheck
from tercet.deploy.ssh.target import Target

STEP = "connect"
# As ssh asks for them where none is known yet: people compare the fingerprint that they see with the one that ssh would show.
_FIRST_KINDS = (b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521")


async def log_in(
    target: Target, offer: Offer, *, host: str, tunnel: asyncssh.SSHClientConnection | None, accept_new: bool
) -> asyncssh.SSHClientConnection:
    """A connection to `target` whose host key is the known one, with one of the keys offered. Raises HostError.

    host: the member it is for. tunnel: the jump host's connection to go through.
    """
    check = HostKeyCheck(target.known_hosts, target.known_as, target.port, accept_new=accept_new)
    keys, authorities, revoked = check.trusted()
    algorithms = () if target.has_host_key_algorithms else _algorithms(keys, with_certificates=bool(authorities))
    try:
        return await asyncssh.connect(
            target.name,
            options=target.options,
            tunnel=tunnel,  # None rather than asyncssh's own reading of ProxyJump, which knows nothing of our checks
            client_factory=lambda: _Client(check),
            known_hosts=(keys, authorities, revoked),
            server_host_key_algs=algorithms,
            client_keys=offer.keys or None,
        )
    except (OSError, ValueError, asyncssh.Error) as error:
        text, remedy = _explain(error, target, offer, check)
        raise HostError(host, STEP, text, remedy=remedy) from error


def _algorithms(known: Sequence[asyncssh.SSHKey], *, with_certificates: bool) -> list[str]:
    """Kinds of host keys to ask for: those that are known first, so that a host with several shows one of them.

    The others too: a host that has none of the known kind is to be told from one that does not answer. Certificates are of use
    only with a known authority; without one the host is to show its plain key.
    """
    kinds = [kind for key in known for kind in key.sig_algorithms]
    kinds += [*_FIRST_KINDS, *get_default_public_key_algs()]
    kinds = [*(get_default_certificate_algs() if with_certificates else []), *kinds]
    return [kind.decode() for kind in dict.fromkeys(kinds)]


class _Client(asyncssh.SSHClient):
    """Asked by asyncssh about a host key that is not among the trusted ones."""

    def __init__(self, check: HostKeyCheck) -> None:
        self._check = check

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self._check.accept(key)


def _explain(error: Exception, target: Target, offer: Offer, check: HostKeyCheck) -> tuple[str, str]:
    """What happened and what to do about it."""
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return _host_key(error, check)
        case asyncssh.PermissionDenied():
            remedy = (
                f"put a public key into ~{target.user}/.ssh/authorized_keys there (ssh-copy-id), or set ssh.user or ssh.key"
            )
            return f"permission denied for {target}: {offer.refused()}", remedy
        case asyncssh.ChannelOpenError():
            return f"cannot reach {target.host} port {target.port} from there: {error.reason}", "is the host up?"
        case TimeoutError():
            seconds = target.options.connect_timeout
            return (
                f"no answer from {target.host} port {target.port} within {seconds:g} s",
                "is the host up, and the address right?",
            )
        case ConnectionRefusedError():
            return f"{target.host} port {target.port} refuses the connection", "does sshd run there, on this port?"
        case socket.gaierror():
            return f"there is no host named {target.host}", "give its address, or ssh.host"
        case asyncssh.ConnectionLost() | ConnectionResetError():
            return f"{target} closed the connection during the login", "its journal (journalctl -u ssh) may say why"
        case OSError():
            return f"cannot reach {target.host} port {target.port}: {error.strerror or error}", "is the address right?"
        case asyncssh.DisconnectError():
            return f"{target} ended the login: {error.reason}", ""
    return f"cannot log in to {target}: {error}", ""


def _host_key(error: asyncssh.HostKeyNotVerifiable, check: HostKeyCheck) -> tuple[str, str]:
    if not check.problem and check.known.revoked:
        check.refuse_revoked()
    return check.problem or f"its host key cannot be trusted: {error.reason}", check.remedy
