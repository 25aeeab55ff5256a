"""Signed tokens in the compact form of RFC 7515: three base64url segments, header.payload.signature.

A token is read as etcd reads it. A segment is base64url without padding, whose unused bits may have any value. Of the
header `alg` alone counts; it must be the configured method. JSON is in UTF-8: invalid bytes and lone surrogates become
U+FFFD, and a number that is no finite float64 is an error. Departs in one point: JSON nested too deep for Python's parser
is refused before etcd's 10,000.
Source: golang-jwt v5 (parser.go), which etcd uses.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import Any, Final

from jwt.algorithms import HMACAlgorithm, get_default_algorithms

_SEGMENTS: Final = 3
_BASE64_URL: Final = re.compile(rb"[A-Za-z0-9_-]*")
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


class Signatures:
    """Signs and verifies with one key. method: `RS256`, `HS512`, ...; signing: None where tokens can only be verified."""

    def __init__(self, method: str, *, signing: Any, verifying: Any) -> None:
        self._method = method
        self._signing = signing
        self._verifying = verifying
        # HMAC takes any secret, as in etcd; the library's own object would refuse those that look like another kind of key.
        hmac = HMACAlgorithm(getattr(HMACAlgorithm, "SHA" + method[2:])) if method.startswith("HS") else None
        self._algorithm: Any = hmac or get_default_algorithms()[method]

    def sign(self, claims: dict[str, Any]) -> str:
        header = {"alg": self._method, "typ": "JWT"}
        signed = b".".join(_encode(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
        return b".".join((signed, _encode(self._algorithm.sign(signed, self._signing)))).decode()

    def claims_of(self, token: bytes) -> dict[str, Any] | None:
        """The claims of a token whose signature is right; None of any other."""
        segments = token.split(b".")
        if len(segments) != _SEGMENTS:
            return None
        try:
            header, payload, signature = map(_decode, segments)
            if _parse(header).get("alg") != self._method:
                return None
            claims = _parse(payload)
        except (ValueError, RecursionError):
            return None
        signed = token[: token.rindex(b".")]
        return claims if self._algorithm.verify(signed, self._verifying, signature) else None


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(segment: bytes) -> bytes:
    """Raises ValueError."""
    if _BASE64_URL.fullmatch(segment) is None:
        raise ValueError("not base64url")
    return binascii.a2b_base64(segment.translate(_TO_STANDARD) + b"=" * (-len(segment) % 4))


def _parse(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises ValueError or RecursionError."""
    text = data.decode(errors="replace")
    parsed = json.loads(text, parse_int=_finite, parse_float=_finite, parse_constant=_refuse)
    if not isinstance(parsed, dict):
        raise ValueError("not an object")
    return {name: _SURROGATES.sub("\ufffd", value) if isinstance(value, str) else value for name, value in parsed.items()}


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("out of range")
    return number


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
