"""Which private keys can be made, and how are they written down? RSA, ECDSA and Ed25519, in the PEM forms that cfssl writes.

A key leaves this module only as bytes for a file that is nobody else's (see files.py): nothing here prints one, and no error
text holds any part of one.
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
    """The size that such a key will have (bits); None or 0 asks for the usual one. Raises ConfigError."""
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"no such key algorithm: {algorithm!r}; known are {', '.join(ALGORITHMS)}")
    size = size or _DEFAULT_SIZES[algorithm]
    if algorithm == "rsa" and not RSA_BITS_MIN <= size <= RSA_BITS_MAX:
        raise ConfigError(f"an rsa key has {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, not {size}")
    if algorithm == "ecdsa" and size not in _CURVES:
        raise ConfigError(f"an ecdsa key has 256, 384 or 521 bits, not {size}")
    if algorithm == "ed25519" and size != _DEFAULT_SIZES[algorithm]:
        raise ConfigError(f"an ed25519 key has 256 bits, not {size}; the size may be left out")
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
    """Algorithm and size (bits) of a public key, as a request would ask for another one like it. Raises ConfigError."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return "rsa", public_key.key_size
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return "ecdsa", public_key.key_size
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return "ed25519", 256
    raise ConfigError(f"a key of a kind that is not supported ({type(public_key).__name__.removesuffix('PublicKey')})")


def describe(public_key: object) -> str:
    """For people: `rsa 2048`, `ecdsa 256`, `ed25519`."""
    try:
        algorithm, size = like(public_key)
    except ConfigError:
        return type(public_key).__name__.removesuffix("PublicKey").lower()
    return algorithm if algorithm == "ed25519" else f"{algorithm} {size}"


def to_pem(key: PrivateKey) -> bytes:
    """`RSA PRIVATE KEY` or `EC PRIVATE KEY`, which the oldest tools can read; PKCS #8 for Ed25519, which has no older form."""
    pkcs8 = isinstance(key, ed25519.Ed25519PrivateKey)
    form = PrivateFormat.PKCS8 if pkcs8 else PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def from_pem(pem: bytes, source: object, *, password: bytes | None = None) -> PrivateKey:
    """The key in `pem`, read from the file `source`, in any of the usual forms. Raises ConfigError naming the file."""
    try:
        key = serialization.load_pem_private_key(pem, password=password)
    except TypeError as error:
        text = "is encrypted, and no password was given" if password is None else "is not encrypted, yet a password was given"
        raise ConfigError(f"{source}: the key {text}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        reason = "holds no private key that can be read (PEM)" if password is None else "cannot be read: is the password right?"
        raise ConfigError(f"{source}: {reason}") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise ConfigError(f"{source}: a private key of a kind that is not supported; known are {', '.join(ALGORITHMS)}")
    return key


def signing_hash(key: PrivateKey) -> SigningHash | None:
    """What is hashed with when `key` signs: as strong as the key. Ed25519 brings its own hash (None)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    strong, stronger = (3072, 4096) if isinstance(key, rsa.RSAPrivateKey) else (384, 521)
    if key.key_size >= stronger:
        return hashes.SHA512()
    return hashes.SHA384() if key.key_size >= strong else hashes.SHA256()
