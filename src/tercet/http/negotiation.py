"""Which form of /metrics a scraper gets: compressed or not, and the escaping of names that its Content-Type states.

Prometheus 3 asks for `escaping=allow-utf-8` and is answered so; a request without it gets `escaping=underscores`. Every name of
a metric here is valid under each scheme, so that pages do not depend on it.

The text format is the answer to every Accept header. etcd also has the protobuf format, which Prometheus asks for, as the first
of several, where it scrapes native histograms; neither server has those.

Source: prometheus/common expfmt/encode.go (Negotiate), goautoneg, client_golang's copy of gddo httputil.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tercet.http1.messages import Headers, header

_CODING: Final = re.compile(rb"([!#-'*+./0-9A-Z^-z|~-]+)[ \t\r\n]*(?:;[ \t\r\n]*q=([01])(?:\.([0-9]*))?[ \t\r\n]*)?")
_SCHEMES: Final = ("allow-utf-8", "underscores", "dots", "values")
_RANGES_MAX: Final = 100
"""Of an Accept header; further ones are not read."""


def accepts_gzip(headers: Headers) -> bool:
    """Whether the headers Accept-Encoding ask for gzip rather than for no compression; as in Go the name is case-sensitive."""
    best, is_gzip = -1.0, False
    codings = [coding for name, value in headers if name == b"accept-encoding" for coding in _codings(value)]
    for offer in (b"identity", b"gzip"):  # of two that are as good the first is chosen
        for name, quality in codings:
            if quality > best and name in (b"*", offer):
                best, is_gzip = quality, offer == b"gzip"
    return is_gzip and best > 0


def _codings(value: bytes) -> list[tuple[bytes, float]]:
    """(content coding, quality) of one header; what follows a malformed part is ignored."""
    codings = []
    at = 0
    while found := _CODING.match(value, at):
        at = found.end()
        if found[2] is None and value[at : at + 1] == b";":
            break
        fraction = (found[3] or b"")[:9]
        codings.append((found[1], 1.0 if found[2] is None else int(found[2]) + int(fraction or b"0") / 10 ** len(fraction)))
        if value[at : at + 1] != b",":
            break
        at += 1
        while value[at : at + 1] in (b" ", b"\t"):
            at += 1
    return codings


class _Range(NamedTuple):
    """A media range of an Accept header."""

    kind: str
    subtype: str
    quality: float
    parameters: dict[str, str]


def escaping(headers: Headers) -> bytes:
    """The escaping scheme to answer with: the last known one in the ranges up to the one that names the text format."""
    scheme = "underscores"
    for one in _ranges(header(headers, b"accept").decode("latin-1")):
        if one.parameters.get("escaping") in _SCHEMES:
            scheme = one.parameters["escaping"]
        if (one.kind, one.subtype) == ("text", "plain") and one.parameters.get("version", "") in ("", "0.0.4"):
            break
    return scheme.encode()


def _ranges(accept: str) -> list[_Range]:
    """The media ranges, preferred ones first; those of the same quality in the order that Go's sort gives them."""
    ranges: list[_Range] = []
    for part in accept.split(",", _RANGES_MAX)[:_RANGES_MAX]:
        one = _range(part.strip(" "))
        if one is None:
            continue
        ranges.append(one)
        at = len(ranges) - 1
        while at and _is_preferred(one, ranges[at - 1]):
            ranges[at] = ranges[at - 1]
            at -= 1
        ranges[at] = one
    return ranges


def _range(text: str) -> _Range | None:
    media, *given = text.split(";")
    kind, _, subtype = (piece.strip(" ") for piece in media.partition("/"))
    if not subtype and kind == "*":
        subtype = "*"
    if not subtype or "/" in subtype:
        return None
    quality, parameters = 1.0, {}
    for pair in given:
        name, _, value = pair.partition("=")
        if not value or "=" in value:
            continue
        if name.strip(" ") == "q":
            quality = _number(value)
        else:
            parameters[name.strip(" ")] = value.strip(" ")
    return _Range(kind, subtype, quality, parameters)


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"[0-9]+\.?[0-9]*|\.[0-9]+", text) else 0.0


def _is_preferred(one: _Range, other: _Range) -> bool:
    if one.quality > other.quality:
        return True
    if one.kind != "*" and other.kind == "*":
        return True
    return one.subtype != "*" and other.subtype == "*"
