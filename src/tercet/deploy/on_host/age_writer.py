"""Encryption of a file to a public key in the format of age, as `tercet.pki.age` does it on the operator's machine.

The recipient is given as 32 bytes in hexadecimal, which `plan/backup_unit` has decoded from age1... text.
Source: age-encryption.org/v1, C2SP.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from tercet.deploy.on_host.libcrypto import Library

VERSION = b"age-encryption.org/v1"
_CHUNK_BYTES = 64 << 10


def encrypt(source: str, target: str, recipient: bytes) -> None:
    """The result is readable only by its owner, and on disk. Raises OSError, CryptoError."""
    crypto = Library()
    file_key, nonce = os.urandom(16), os.urandom(16)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out, open(source, "rb") as plain:
        out.write(_header(crypto, file_key, recipient) + nonce)
        key = derived(file_key, nonce, b"payload")
        piece, number = plain.read(_CHUNK_BYTES), 0
        while True:
            following = plain.read(_CHUNK_BYTES) if len(piece) == _CHUNK_BYTES else b""
            out.write(crypto.seal(key, number.to_bytes(11, "big") + (b"\0" if following else b"\1"), piece))
            if not following:
                break
            piece, number = following, number + 1
        out.flush()
        os.fsync(out.fileno())


def _header(crypto: Library, file_key: bytes, recipient: bytes) -> bytes:
    """The file key, wrapped for the recipient, and its authentication code."""
    ephemeral = os.urandom(32)
    share = crypto.public_key(ephemeral)
    wrapping = derived(crypto.exchange(ephemeral, recipient), share + recipient, VERSION + b"/X25519")
    body = crypto.seal(wrapping, bytes(12), file_key)
    header = b"\n".join([VERSION, b"-> X25519 " + _base64(share), _base64(body), b"---"])
    code = hmac.new(derived(file_key, b"", b"header"), header, hashlib.sha256).digest()
    return header + b" " + _base64(code) + b"\n"


def derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """32 bytes of HKDF-SHA-256 (RFC 5869): one block is enough."""
    extracted = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\1", hashlib.sha256).digest()


def _base64(content: bytes) -> bytes:
    return base64.b64encode(content).rstrip(b"=")
