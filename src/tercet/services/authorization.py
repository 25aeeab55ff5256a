"""Who is calling, and may they? Every service asks here, with the call in its hand.

    writes          `identify`; the identity goes into the entry, and the user's permissions are checked when it is applied
    reads           `check_read`, when the answer is made; of a Txn, TxnPermissions
    everything else `require_identity` or `require_admin`, before anything is done

While authentication is disabled nothing is looked at. The hot methods test `auth.is_enabled` themselves and call nothing.
A caller is named by the token of the call, else by the common name of its client certificate (`--client-cert-auth`). A token
that is not valid fails the call even if the certificate would do.
Source: etcd server/auth/store.go (AuthInfoFromCtx, AuthInfoFromTLS), v3_server.go and api/v3rpc/auth.go.
"""

from __future__ import annotations

import logging
from typing import Final

from tercet import errors
from tercet.auth import NOBODY, AuthStore, Identity, fingerprint
from tercet.log_fields import fields
from tercet.replica.replica import Replica
from tercet.rpc.call import UNREAD, Call

logger = logging.getLogger(__name__)

_BEARER: Final = b"Bearer "
_GATEWAY_HEADER: Final = "grpcgateway-accept"
CALLER_HEADERS: Final = ("token", "authorization", _GATEWAY_HEADER)
"""All that `Authorization` reads of a call: a call that is made for another one must carry them, too."""


class Authorization:
    """One for each member. `auth` is the member's AuthStore, for the test of `auth.is_enabled`."""

    def __init__(self, replica: Replica, *, client_cert_auth: bool = False) -> None:
        self.auth: AuthStore = replica.auth
        self._replica = replica
        self._client_cert_auth = client_cert_auth

    def identify(self, call: Call) -> Identity:
        """The caller; NOBODY if it is not named, or authentication is disabled. Raises INVALID_AUTH_TOKEN."""
        auth = self.auth
        if not auth.is_enabled:
            return NOBODY
        token = token_of(call)
        return self._certified(call) if token is None else self._bearer(token)

    def _bearer(self, token: bytes) -> Identity:
        auth = self.auth
        claim = auth.tokens.find(token)
        if claim is None:
            logger.warning("invalid auth token", extra=fields(token_fingerprint=fingerprint(token)))
            raise errors.INVALID_AUTH_TOKEN
        revision: int | None = claim.revision
        if revision is not None and revision != auth.revision:
            return Identity(claim.username, revision)
        return auth.identity_of(claim.username)

    def is_early(self, call: Call) -> bool:
        """Does the call carry a token from an entry that this member may not have applied yet?

        A linearizable read afterwards applies it: the client got the token when its entry was committed.
        """
        token = token_of(call)
        return token is not None and self.auth.tokens.index_of(token) > self._replica.applied_index

    def require_identity(self, call: Call) -> Identity:
        """`identify`, for calls that need a caller. Raises USER_EMPTY or INVALID_AUTH_TOKEN."""
        identity = self.identify(call)
        if identity is NOBODY and self.auth.is_enabled:
            raise errors.USER_EMPTY
        return identity

    def require_admin(self, call: Call) -> None:
        """Raises USER_EMPTY, USER_NOT_FOUND, PERMISSION_DENIED or INVALID_AUTH_TOKEN."""
        if self.auth.is_enabled:
            self.auth.check_admin(self.identify(call))

    def require_admin_token(self, token: bytes) -> None:
        """`require_admin` for a call that another member has forwarded, with its client's token or b""."""
        if self.auth.is_enabled:
            self.auth.check_admin(self._bearer(token) if token else NOBODY)

    def check_read(self, call: Call, key: bytes, range_end: bytes) -> Identity:
        """May the caller read these keys? Returns the caller, for `check_unchanged` where the read takes several turns.

        Raises USER_EMPTY, AUTH_OLD_REVISION, PERMISSION_DENIED or INVALID_AUTH_TOKEN.
        """
        identity = self.identify(call)
        self.auth.check_read(identity, key, range_end)
        self.check_unchanged(identity)
        return identity

    def check_unchanged(self, identity: Identity) -> None:
        """After a read that took several turns: is what was checked at its start still so? Raises AUTH_OLD_REVISION.

        A signed token may also come from a later auth revision than this member has applied.
        """
        if identity.revision and identity.revision != self.auth.revision:
            raise errors.AUTH_OLD_REVISION

    def _certified(self, call: Call) -> Identity:
        """The caller as its certificate names it. A gateway's certificate is its own, not its client's."""
        common_name = call.peer.common_name
        if not self._client_cert_auth or common_name is None:
            return NOBODY
        if call.header(_GATEWAY_HEADER) is not None:
            shown = fields(common_name=common_name, user_name=common_name, revision=self.auth.revision)
            logger.warning("ignoring common name in gRPC-gateway proxy request", extra=shown)
            return NOBODY
        return self.auth.identity_of(common_name)


def token_of(call: Call) -> bytes | None:
    """The token that the call carries. None without one. Most calls are looked at by the interceptor and by their service."""
    token = call.token
    if token == UNREAD:
        token = call.header("token")
        if token is None:
            token = call.header("authorization")
        if token is not None and token.startswith(_BEARER):
            token = token[len(_BEARER) :]
        call.token = token
    return token
