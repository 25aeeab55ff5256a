"""strconv; the output of etcdctl is compared in tests/cli."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.gotext.json import dumps
from tercet.gotext.strconv import GoSyntaxError, humanize_bytes, parse_bool, parse_int, quote, unquote


@given(st.binary())
def test_unquote_inverts_quote(data: bytes) -> None:
    text = quote(data)
    assert unquote(text) == data
    assert text.isprintable()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a b", '"a b"'),
        (b'"\\\n\t\a', r'"\"\\\n\t\a"'),
        (b"\x00\x1f\x7f", r'"\x00\x1f\x7f"'),
        (b"\xff\xc3\xa9\xc3", r'"\xffé\xc3"'),
        ("\u200b\u00a0\U0001f600\U000e0001".encode(), r'"\u200b\u00a0😀\U000e0001"'),
    ],
)
def test_quote(data: bytes, text: str) -> None:
    assert quote(data) == text


@pytest.mark.parametrize(
    ("text", "data"),
    [(r'"\x41\101\u00e9\U0001f600"', "AAé😀".encode()), ("`raw \\n`", rb"raw \n"), ('""', b"")],
)
def test_unquote(text: str, data: bytes) -> None:
    assert unquote(text) == data


@pytest.mark.parametrize(
    "text", ["", '"', "'a'", '"a', 'a"', '"\\q"', '"\\x4"', '"\\u12"', '"\\400"', '"\\ud800"', '"a"b"', '"\\"', '"\\\'"']
)
def test_unquote_refuses(text: str) -> None:
    with pytest.raises(GoSyntaxError, match="invalid syntax"):
        unquote(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (9, "9 B"),
        (10, "10 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (20_480, "20 kB"),
        (24_500, "24 kB"),
        (25_500, "26 kB"),
        (999_999, "1000 kB"),
        (2_147_483_648, "2.1 GB"),
        (2**63, "9.2 EB"),
    ],
)
def test_humanize_bytes(count: int, text: str) -> None:
    assert humanize_bytes(count) == text


def test_numbers() -> None:
    assert parse_int("-12") == -12
    assert parse_int("7fFf", 16) == 0x7FFF
    assert parse_int(str(2**64 - 1), signed=False) == 2**64 - 1
    for text, signed in (("", True), ("1_0", True), (" 1", True), ("0x1", True), ("-1", False), ("+1", False), ("٣", True)):
        with pytest.raises(GoSyntaxError, match="invalid syntax"):
            parse_int(text, signed=signed)
    for text, signed in ((str(2**63), True), (str(2**64), False)):
        with pytest.raises(GoSyntaxError, match="value out of range"):
            parse_int(text, signed=signed)


def test_booleans() -> None:
    assert [parse_bool(text) for text in ("1", "t", "T", "true", "TRUE", "True")] == [True] * 6
    assert [parse_bool(text) for text in ("0", "f", "F", "false", "FALSE", "False")] == [False] * 6
    with pytest.raises(GoSyntaxError, match=r'strconv\.ParseBool: parsing "yes": invalid syntax'):
        parse_bool("yes")


def test_json_escapes_as_go_does() -> None:
    assert dumps({"a": "<&>\u2028é"}) == '{"a":"\\u003c\\u0026\\u003e\\u2028é"}'
