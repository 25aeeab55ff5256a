"""Private keys: RSA, ECDSA and Ed25519, in cfssl's PEM formats.

Keys leave this module only as bytes for files of mode 0600 (see files.py); no output or error text contains any part of one.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tercet.errors import ConfigError

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
SigningHash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512

ALGORITHMS = ("rsa", "ecdsa", "ed25519")
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 8192
_CURVES: dict[int, type[ec.EllipticCurve]] = {256: ec.SECP256R1, 384: ec.SECP384R1, 521: ec.SECP521R1}
_DEFAULT_SIZES = {"rsa": 2048, "ecdsa": 256, "ed25519": 256}


def check(algorithm: str, size: int | None) -> int:
    """The size of such a key in bits; None or 0 for the default. Raises ConfigError."""
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"unknown key algorithm: {algorithm!r}; supported: {', '.join(ALGORITHMS)}")
    size = size or _DEFAULT_SIZES[algorithm]
    if algorithm == "rsa" and not RSA_BITS_MIN <= size <= RSA_BITS_MAX:
        raise ConfigError(f"unsupported rsa key size: {size}; supported: {RSA_BITS_MIN} to {RSA_BITS_MAX} bits")
    if algorithm == "ecdsa" and size not in _CURVES:
        raise ConfigError(f"unsupported ecdsa key size: {size}; supported: 256, 384 and 521 bits")
    if algorithm == "ed25519" and size != _DEFAULT_SIZES[algorithm]:
        raise ConfigError(f"unsupported ed25519 key size: {size}; omit the size")
    return size


def generate(algorithm: str, size: int | None = None) -> PrivateKey:
    """A new key. Raises ConfigError."""
    bits = check(algorithm, size)
    if algorithm == "rsa":
        return rsa.generate_private_key(65537, bits)
    if algorithm == "ecdsa":
        return ec.generate_private_key(_CURVES[bits]())
    return ed25519.Ed25519PrivateKey.generate()


def like(public_key: object) -> tuple[str, int]:
    """Algorithm and size in bits of a public key, in the form of a request. Raises ConfigError."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return "rsa", public_key.key_size
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return "ecdsa", public_key.key_size
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return "ed25519", 256
    raise ConfigError(f"unsupported key type ({type(public_key).__name__.removesuffix('PublicKey')})")


def describe(public_key: object) -> str:
    """For display: `rsa 2048`, `ecdsa 256`, `ed25519`."""
    try:
        algorithm, size = like(public_key)
    except ConfigError:
        return type(public_key).__name__.removesuffix("PublicKey").lower()
    return algorithm if algorithm == "ed25519" else f"{algorithm} {size}"


def to_pem(key: PrivateKey) -> bytes:
    """`RSA PRIVATE KEY` or `EC PRIVATE KEY`, for old tools; PKCS #8 for Ed25519, which has no other format."""
    pkcs8 = isinstance(key, ed25519.Ed25519PrivateKey)
    form = PrivateFormat.PKCS8 if pkcs8 else PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def from_pem(pem: bytes, source: object, *, password: bytes | None = None) -> PrivateKey:
    """Parse a private key in any PEM format. source: file name for errors. Raises ConfigError."""
    try:
        key = serialization.load_pem_private_key(pem, password=password)
    except TypeError as error:
        text = "is encrypted and no password was given" if password is None else "is not encrypted but a password was given"
        raise ConfigError(f"{source}: the key {text}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        reason = "no readable private key (PEM)" if password is None else "cannot decrypt the key: wrong password?"
        raise ConfigError(f"{source}: {reason}") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise ConfigError(f"{source}: unsupported type of private key; supported: {', '.join(ALGORITHMS)}")
    return key


def signing_hash(key: PrivateKey) -> SigningHash | None:
    """The hash for signatures by `key`, matching its strength. None for Ed25519, which has its own."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    strong, stronger = (3072, 4096) if isinstance(key, rsa.RSAPrivateKey) else (384, 521)
    if key.key_size >= stronger:
        return hashes.SHA512()
    return hashes.SHA384() if key.key_size >= strong else hashes.SHA256()
