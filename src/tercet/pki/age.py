"""Encryption of files to a public key, in the format of age (age-encryption.org/v1), whose tools can decrypt them.

    key = new_key()                        # AGE-SECRET-KEY-1..., to be kept; key.recipient: age1..., to encrypt with
    encrypt(source, target, key.recipient)
    decrypt(target, copy, key)

A file key, random for each file, encrypts the content in chunks of 64 KiB with ChaCha20-Poly1305; each nonce counts and marks
the last chunk, so that a file cannot be cut or rearranged. The file key is wrapped for the recipient by X25519 and HKDF. Only
that kind of recipient is supported. Source: the specification at age-encryption.org/v1, C2SP; Bech32 of BIP 173.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tercet.errors import ConfigError

VERSION = b"age-encryption.org/v1"
_CHUNK_BYTES = 64 << 10
_TAG_BYTES = 16
_FILE_KEY_BYTES = 16
_NONCE_BYTES = 16
_HEADER_BYTES_MAX = 1 << 16
_X25519_INFO = VERSION + b"/X25519"
_PUBLIC_PREFIX, _SECRET_PREFIX = "age", "AGE-SECRET-KEY-"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_ZERO_NONCE = bytes(12)


@dataclass(frozen=True)
class Key:
    """A key pair. secret: to decrypt, as text. recipient: to encrypt, as text."""

    secret: str = field(repr=False)
    recipient: str


def new_key() -> Key:
    return _key(X25519PrivateKey.generate().private_bytes_raw())


def read_key(text: str) -> Key:
    """The first secret key in the text of a key file; lines with # are comments. Raises ConfigError."""
    for line in text.splitlines():
        if line.strip().upper().startswith(_SECRET_PREFIX):
            return _key(_decode(line.strip(), _SECRET_PREFIX))
    raise ConfigError(f"no {_SECRET_PREFIX}1... in this file")


def check_recipient(text: str) -> bytes:
    """The public key as 32 bytes. Raises ConfigError if the text is no public key."""
    return _decode(text, _PUBLIC_PREFIX)


def encrypt(source: Path, target: Path, recipient: str) -> None:
    """Encrypt a file. The result is readable only by its owner. Raises ConfigError for a bad recipient, OSError."""
    public = X25519PublicKey.from_public_bytes(_decode(recipient, _PUBLIC_PREFIX))
    file_key, nonce = os.urandom(_FILE_KEY_BYTES), os.urandom(_NONCE_BYTES)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out, source.open("rb") as plain:
        out.write(_header(file_key, public) + nonce)
        cipher = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
        for number, (chunk, is_last) in enumerate(_chunks(plain, _CHUNK_BYTES)):
            out.write(cipher.encrypt(_chunk_nonce(number, is_last), chunk, None))
        out.flush()
        os.fsync(out.fileno())


def decrypt(source: Path, target: Path, key: Key) -> None:
    """Decrypt a file. The result is readable only by its owner. Raises ConfigError if it is damaged or for another key."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with source.open("rb") as encrypted, os.fdopen(descriptor, "wb") as out:
        file_key = _file_key(encrypted, key, source)
        cipher = ChaCha20Poly1305(_derived(file_key, encrypted.read(_NONCE_BYTES), b"payload"))
        for number, (chunk, is_last) in enumerate(_chunks(encrypted, _CHUNK_BYTES + _TAG_BYTES)):
            try:
                out.write(cipher.decrypt(_chunk_nonce(number, is_last), chunk, None))
            except InvalidTag:
                raise ConfigError(f"{source}: damaged, or cut off, in chunk {number}") from None


def is_encrypted(path: Path) -> bool:
    """Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(VERSION)) == VERSION


# The header: the file key, wrapped for one recipient, and its authentication code.


def _header(file_key: bytes, public: X25519PublicKey) -> bytes:
    ephemeral = X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    wrapping = _derived(ephemeral.exchange(public), share + public.public_bytes_raw(), _X25519_INFO)
    body = ChaCha20Poly1305(wrapping).encrypt(_ZERO_NONCE, file_key, None)
    header = b"\n".join([VERSION, b"-> X25519 " + _base64(share), _base64(body), b"---"])
    return header + b" " + _base64(_code(file_key, header)) + b"\n"


def _file_key(file: BinaryIO, key: Key, path: Path) -> bytes:
    """Read the header. Raises ConfigError."""
    lines: list[bytes] = []
    size = 0
    while not (lines and lines[-1].startswith(b"---")):
        line = file.readline(_HEADER_BYTES_MAX)
        size += len(line)
        if not line.endswith(b"\n") or size > _HEADER_BYTES_MAX or (not lines and line.rstrip() != VERSION):
            raise ConfigError(f"{path}: not a file encrypted by age")
        lines.append(line.rstrip(b"\n"))
    secret = X25519PrivateKey.from_private_bytes(_decode(key.secret, _SECRET_PREFIX))
    for number, line in enumerate(lines):
        words = line.split(b" ")
        if words[:2] != [b"->", b"X25519"] or len(words) != 3:
            continue
        share, body = _unbase64(words[2], path), _unbase64(lines[number + 1], path)
        try:
            wrapping = _derived(
                secret.exchange(X25519PublicKey.from_public_bytes(share)),
                share + secret.public_key().public_bytes_raw(),
                _X25519_INFO,
            )
            file_key = ChaCha20Poly1305(wrapping).decrypt(_ZERO_NONCE, body, None)
        except (InvalidTag, ValueError):
            continue  # for another recipient
        code = _unbase64(lines[-1].removeprefix(b"--- "), path)
        if not hmac.compare_digest(code, _code(file_key, b"\n".join([*lines[:-1], b"---"]))):
            raise ConfigError(f"{path}: damaged header")
        return file_key
    raise ConfigError(f"{path}: encrypted for another key than {key.recipient}")


def _code(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derived(file_key, b"", b"header"), header, "sha256")


def _derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(secret)


def _base64(content: bytes) -> bytes:
    return base64.b64encode(content).rstrip(b"=")


def _unbase64(text: bytes, path: Path) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ConfigError(f"{path}: damaged header") from None


# The content.


def _chunks(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bool]]:
    """Pieces of `size` bytes, the last one shorter, and whether it is the last; an empty file is one empty piece."""
    piece = file.read(size)
    while True:
        following = file.read(size) if len(piece) == size else b""
        yield piece, not following
        if not following:
            return
        piece = following


def _chunk_nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if is_last else b"\0")


# Keys as text, in Bech32.


def _key(secret: bytes) -> Key:
    public = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    return Key(_encode(_SECRET_PREFIX.lower(), secret).upper(), _encode(_PUBLIC_PREFIX, public))


def _encode(prefix: str, content: bytes) -> str:
    values = _regrouped(content, 8, 5)
    checksum = _checksum(prefix, [*values, 0, 0, 0, 0, 0, 0]) ^ 1
    values += [checksum >> 5 * (5 - place) & 31 for place in range(6)]
    return f"{prefix}1{''.join(_BECH32[value] for value in values)}"


def _decode(text: str, prefix: str) -> bytes:
    """32 bytes. Raises ConfigError; the text, which may be a secret, is not in the error."""
    what = "recipient" if prefix == _PUBLIC_PREFIX else "key"
    lower = text.strip().lower()
    start, found = f"{prefix.lower()}1", [_BECH32.find(letter) for letter in lower.removeprefix(f"{prefix.lower()}1")]
    if not lower.startswith(start) or -1 in found or _checksum(prefix.lower(), found) != 1:
        raise ConfigError(f"not a {what} of age: it has the form {prefix}1..., and a checksum")
    content = bytes(_regrouped(bytes(found[:-6]), 5, 8))[:32]
    if len(content) != 32:
        raise ConfigError(f"not a {what} of age: it is too short")
    return content


def _regrouped(content: bytes, before: int, after: int) -> list[int]:
    """Groups of `before` bits as groups of `after` bits; what is left over is padded when it grows, dropped when it shrinks."""
    bits = "".join(f"{value:0{before}b}" for value in content)
    if before > after:
        bits += "0" * (-len(bits) % after)
    return [int(bits[at : at + after], 2) for at in range(0, len(bits) - after + 1, after)]


def _checksum(prefix: str, values: list[int]) -> int:
    found = 1
    for value in [*(ord(letter) >> 5 for letter in prefix), 0, *(ord(letter) & 31 for letter in prefix), *values]:
        top = found >> 25
        found = (found & 0x1FFFFFF) << 5 ^ value
        for place, factor in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            found ^= factor if top >> place & 1 else 0
    return found
