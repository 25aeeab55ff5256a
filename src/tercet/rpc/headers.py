"""Header blocks and metadata. Blocks that are sent often are built once; received metadata is parsed only on demand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tercet.errors import Code
from tercet.rpc.http2 import Header, Headers
from tercet.rpc.wire import decode_binary, encode_binary, encode_grpc_message

Metadata = Iterable[tuple[str, str | bytes]]

RESPONSE: Final[Headers] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
OK_TRAILERS: Final[Headers] = ((b"grpc-status", b"0"),)

# Headers of the transport, not metadata of the caller.
_RESERVED = frozenset((b"content-type", b"te", b"user-agent", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding"))

_TRAILERS_KEPT_MAX = 512
_TEXT_CHARACTERS_MAX = 4096  # clients limit the size of header blocks
_trailers: dict[tuple[int, str], Headers] = {}


def status_trailers(code: int, text: str) -> Headers:
    """The trailers of a call that ended with `code`; cached, since a busy server sends the same few errors over and over."""
    known = _trailers.get((code, text))
    if known is None:
        text = text[:_TEXT_CHARACTERS_MAX]
        known = ((b"grpc-status", b"%d" % code), (b"grpc-message", encode_grpc_message(text)))
        if len(_trailers) >= _TRAILERS_KEPT_MAX:
            _trailers.clear()  # texts with numbers in them would otherwise fill it for good
        _trailers[code, text] = known
    return known


def value_of(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a header (lower case), `-bin` decoded; None if absent. Raises StatusError for malformed base64."""
    for key, value in headers:
        if key == name:
            return decode_binary(key, value) if name[-4:] == b"-bin" else value
    return None


def metadata_of(headers: Headers) -> dict[str, tuple[bytes, ...]]:
    """All metadata by lower-case name, values in order, `-bin` decoded. Raises StatusError for malformed base64."""
    result: dict[str, tuple[bytes, ...]] = {}
    for name, value in headers:
        if name[0] == 0x3A or name in _RESERVED:  # ":"
            continue
        if name[-4:] == b"-bin":
            value = decode_binary(name, value)
        key = name.decode("latin-1")
        result[key] = (*result.get(key, ()), value)
    return result


def encode_metadata(metadata: Metadata) -> list[Header]:
    """Metadata as header fields; a `-bin` value must be bytes. Raises ValueError for what HTTP/2 cannot carry."""
    result: list[Header] = []
    for name, value in metadata:
        key = name.lower().encode("ascii")
        if key.endswith(b"-bin"):
            result.append((key, encode_binary(value if isinstance(value, bytes) else value.encode())))
            continue
        raw = value if isinstance(value, bytes) else value.encode("ascii")
        if any(byte < 0x20 or byte > 0x7E for byte in raw):
            raise ValueError(f"metadata {name!r} has a byte that is not printable ASCII; name it {name}-bin to send bytes")
        result.append((key, raw))
    return result


_CODE_OF_HTTP_STATUS: Final[Mapping[bytes, Code]] = {
    b"400": Code.INTERNAL,
    b"401": Code.UNAUTHENTICATED,
    b"403": Code.PERMISSION_DENIED,
    b"404": Code.UNIMPLEMENTED,
    b"429": Code.UNAVAILABLE,
    b"502": Code.UNAVAILABLE,
    b"503": Code.UNAVAILABLE,
    b"504": Code.UNAVAILABLE,
}


def code_of_http_status(status: bytes) -> Code:
    """The status of a call whose response is plain HTTP (grpc's http-grpc-status-mapping)."""
    return _CODE_OF_HTTP_STATUS.get(status, Code.UNKNOWN)
