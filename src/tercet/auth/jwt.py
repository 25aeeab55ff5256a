"""JSON Web Tokens: signed by the member that was asked, valid on every member with the key, until they expire.

The claims are `username`, `revision` (the auth revision at the login) and `exp`. A token is older than any change of users or
roles made after it; it cannot be revoked otherwise. Verified tokens are remembered until they expire: to verify one costs as
much as several puts.
Source: etcd server/auth/jwt.go and options.go; golang-jwt for which claims count.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from tercet.auth.jws import Signatures
from tercet.auth.tokens import Claim, fingerprint
from tercet.errors import TOKEN_VERIFY_ONLY, ConfigError

logger = logging.getLogger(__name__)

_VERIFIED_MAX: Final = 10_000
_VERIFY_WORK: Final = 20
_WORK_SHIFT: Final = 6  # one more for each 64 bytes: they may be thousands of numbers
_GO_SECONDS_MAX: Final = (1 << 63) - 62_135_596_800  # Go's Time counts them from the year 1
_KEY_TYPES: Final[dict[str, tuple[type, type]]] = {
    "RS": (RSAPrivateKey, RSAPublicKey),
    "PS": (RSAPrivateKey, RSAPublicKey),
    "ES": (EllipticCurvePrivateKey, EllipticCurvePublicKey),
    "Ed": (Ed25519PrivateKey, Ed25519PublicKey),
}
_CURVE_BITS: Final = {"ES256": 256, "ES384": 384, "ES512": 521}
METHODS: Final = frozenset(family + bits for family in ("RS", "PS", "ES", "HS") for bits in ("256", "384", "512")) | {"EdDSA"}


class JwtKey:
    """The key of one signing method. `signing` is None where tokens can only be verified."""

    def __init__(self, method: str, *, private: bytes, public: bytes) -> None:
        """method: one of METHODS; private, public: PEM, b"" where not given; for HS the secret is `private`.

        Raises ConfigError with etcd's text.
        """
        self.method = method
        self.signing: Any = None
        self.verifying: Any = None
        if method.startswith("HS"):
            if not private:
                raise ConfigError("auth: missing key data")
            self.signing = self.verifying = private
            return
        private_type, public_type = _KEY_TYPES[method[:2]]
        if private:
            self.signing = _parse(_load_private, private, private_type, "private")
            self.verifying = self.signing.public_key()
        if public:
            given = _parse(_load_public, public, public_type, "public")
            if private and given != self.verifying:
                raise ConfigError("auth: public and private keys don't match")
            self.verifying = given
        if self.verifying is None:
            raise ConfigError("auth: missing key data")
        bits = _CURVE_BITS.get(method)
        if bits is not None and self.verifying.curve.key_size != bits:
            raise ConfigError(
                f"--auth-token: {method} needs a key on a curve of {bits} bits, not {self.verifying.curve.key_size}"
            )


class JwtTokens:
    """`Tokens` that are signed.

    now: seconds since 1970. spend: called with the work of each verification, in units of intake.py: only tokens that are valid
    are remembered, so a flood of others costs one for each call.
    """

    def __init__(
        self,
        key: JwtKey,
        *,
        ttl_seconds: float,
        now: Callable[[], float],
        spend: Callable[[int], None] = lambda work: None,
    ) -> None:
        self._key = key
        self._ttl_seconds = ttl_seconds
        self._now = now
        self._spend = spend
        self._signatures = Signatures(key.method, signing=key.signing, verifying=key.verifying)
        self._verified: dict[bytes, tuple[Claim, float]] = {}

    def new_prefix(self) -> str:
        return ""

    def assign(self, username: str, prefix: str, index: int, issued_index: int) -> str:
        return ""

    def sign(self, username: str, revision: int) -> str:
        if self._key.signing is None:
            raise TOKEN_VERIFY_ONLY
        claims = {"exp": int(self._now() + self._ttl_seconds), "revision": revision, "username": username}
        token = self._signatures.sign(claims)
        logger.debug("signed a token for user %r, fingerprint %s", username, fingerprint(token.encode()))
        return token

    def find(self, token: bytes) -> Claim | None:
        now = self._now()
        known = self._verified.get(token)
        if known is None:
            known = self._verify(token)
            if known is None:
                return None
            if len(self._verified) >= _VERIFIED_MAX:
                self._verified.clear()
            self._verified[token] = known
        claim, expires_at = known
        if expires_at <= now:
            self._verified.pop(token, None)
            return None
        return claim

    def index_of(self, token: bytes) -> int:
        return 0

    def revoke(self, username: str) -> None: ...

    def revoke_all(self) -> None: ...

    def holders(self) -> list[str]:
        return []

    def _verify(self, token: bytes) -> tuple[Claim, float] | None:
        """The claim, and the time at which it expires: infinite if the token does not say."""
        self._spend(_VERIFY_WORK + (len(token) >> _WORK_SHIFT))
        claims = self._signatures.claims_of(token)
        if claims is None:
            return None
        username, revision = claims.get("username"), claims.get("revision")
        if not isinstance(username, str) or not isinstance(revision, float):
            return None
        try:
            expires_at, not_before = _date(claims, "exp"), _date(claims, "nbf")
        except ValueError:
            return None
        if not_before is not None and not_before > self._now():
            return None
        return Claim(username, _uint64(revision)), math.inf if expires_at is None else expires_at


def _date(claims: dict[str, Any], name: str) -> float | None:
    """Seconds since 1970; 0 counts as not given, and what Go's Time cannot hold as long ago. Raises ValueError."""
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, float):
        raise ValueError(f"{name} is not a number")
    if not value:
        return None
    return math.floor(value) if abs(value) < _GO_SECONDS_MAX else -math.inf


def _uint64(number: float) -> int:
    """As Go converts on amd64: what does not fit becomes a revision that is never reached."""
    return int(number) if -1 < number < 1 << 63 else (1 << 64) - 1


def _parse(load: Callable[[bytes], Any], pem: bytes, expected: type, kind: str) -> Any:
    try:
        key = load(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"--auth-token: cannot read the {kind} key: {error}") from error
    if not isinstance(key, expected):
        raise ConfigError(f"--auth-token: the {kind} key is of another kind than its sign-method needs")
    return key


def _load_private(pem: bytes) -> Any:
    return load_pem_private_key(pem, password=None)


def _load_public(pem: bytes) -> Any:
    """A public key, or that of a certificate."""
    if b"CERTIFICATE" in pem:
        return load_pem_x509_certificate(pem).public_key()
    return load_pem_public_key(pem)
