"""X25519 and ChaCha20-Poly1305 of the host's libcrypto (OpenSSL 1.1.1 or newer), called through ctypes.

Hosts have no Python package for them, and in Python alone a gigabyte would take half an hour.
Source: EVP_PKEY_derive(3), EVP_EncryptInit(3), EVP_PKEY_new_raw_private_key(3).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import re
import ssl
from typing import Any

_X25519 = 1034
_SET_NONCE_LENGTH, _GET_TAG = 0x9, 0x10
TAG_BYTES = 16


class CryptoError(Exception):
    """libcrypto is missing, too old, or refuses an operation (FIPS mode has neither algorithm)."""


def load() -> ctypes.CDLL:
    """The library that this Python's `ssl` uses, else the system's. Raises CryptoError."""
    for path in (_of_this_process(), ctypes.util.find_library("crypto"), "libcrypto.so.3", "libcrypto.so.1.1"):
        try:
            library = ctypes.CDLL(path) if path else None
        except OSError:
            continue
        if library is not None and hasattr(library, "EVP_PKEY_new_raw_private_key"):
            _declare(library)
            return library
    raise CryptoError("no libcrypto of OpenSSL 1.1.1 or newer on this host; encrypted backups need it")


def _of_this_process() -> str:
    assert ssl.OPENSSL_VERSION, "imported so that the library is mapped"
    try:
        with open("/proc/self/maps") as maps:
            found = re.search(r"/\S*/libcrypto\.so\S*", maps.read())
    except OSError:
        return ""
    return found.group(0) if found else ""


_POINTERS = (
    "EVP_PKEY_new_raw_private_key",
    "EVP_PKEY_new_raw_public_key",
    "EVP_PKEY_CTX_new",
    "EVP_CIPHER_CTX_new",
    "EVP_chacha20_poly1305",
)


def _declare(library: ctypes.CDLL) -> None:
    """Pointers are 64 bits wide; ctypes takes results for ints of 32."""
    for name in _POINTERS:
        getattr(library, name).restype = ctypes.c_void_p


class Library:
    """The operations that a file of age needs. Raises CryptoError."""

    def __init__(self) -> None:
        self._library = load()

    def public_key(self, secret: bytes) -> bytes:
        """Of an X25519 secret key."""
        key = self._key("EVP_PKEY_new_raw_private_key", secret)
        try:
            out, size = ctypes.create_string_buffer(32), ctypes.c_size_t(32)
            self._do("EVP_PKEY_get_raw_public_key", key, out, ctypes.byref(size))
            return out.raw
        finally:
            self._library.EVP_PKEY_free(key)

    def exchange(self, secret: bytes, public: bytes) -> bytes:
        """The secret that X25519 shares between `secret` and the owner of `public`."""
        key, peer = self._key("EVP_PKEY_new_raw_private_key", secret), self._key("EVP_PKEY_new_raw_public_key", public)
        context = ctypes.c_void_p(self._library.EVP_PKEY_CTX_new(key, None))
        try:
            out, size = ctypes.create_string_buffer(32), ctypes.c_size_t(32)
            self._do("EVP_PKEY_derive_init", context)
            self._do("EVP_PKEY_derive_set_peer", context, peer)
            self._do("EVP_PKEY_derive", context, out, ctypes.byref(size))  # refuses points of low order
            return out.raw
        finally:
            self._library.EVP_PKEY_CTX_free(context)
            self._library.EVP_PKEY_free(key)
            self._library.EVP_PKEY_free(peer)

    def seal(self, key: bytes, nonce: bytes, plain: bytes) -> bytes:
        """ChaCha20-Poly1305 without associated data: the ciphertext, then its tag."""
        library, context = self._library, ctypes.c_void_p(self._library.EVP_CIPHER_CTX_new())
        try:
            cipher = ctypes.c_void_p(library.EVP_chacha20_poly1305())
            out, tag = ctypes.create_string_buffer(len(plain) or 1), ctypes.create_string_buffer(TAG_BYTES)
            size = ctypes.c_int(0)
            self._do("EVP_EncryptInit_ex", context, cipher, None, None, None)
            self._do("EVP_CIPHER_CTX_ctrl", context, _SET_NONCE_LENGTH, len(nonce), None)
            self._do("EVP_EncryptInit_ex", context, None, None, key, nonce)
            self._do("EVP_EncryptUpdate", context, out, ctypes.byref(size), plain, len(plain))
            written = size.value
            self._do("EVP_EncryptFinal_ex", context, out, ctypes.byref(size))  # writes nothing: a stream cipher
            self._do("EVP_CIPHER_CTX_ctrl", context, _GET_TAG, TAG_BYTES, tag)
            return out.raw[:written] + tag.raw
        finally:
            library.EVP_CIPHER_CTX_free(context)

    def _key(self, maker: str, content: bytes) -> ctypes.c_void_p:
        found = getattr(self._library, maker)(_X25519, None, content, ctypes.c_size_t(len(content)))
        if not found:
            raise CryptoError("libcrypto has no X25519 here; FIPS mode excludes it")
        return ctypes.c_void_p(found)

    def _do(self, name: str, *arguments: Any) -> None:
        if getattr(self._library, name)(*arguments) != 1:
            raise CryptoError(name + " of libcrypto failed")
