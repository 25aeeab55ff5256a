"""Strings of a request's JSON that are not valid Unicode: refused with protojson's text, wherever they stand."""

from __future__ import annotations

import pytest

from tercet.errors import StatusError
from tercet.gateway.json_decode import decode
from tercet.gateway.json_syntax import Tokens, end_of_value
from tercet.proto import rpc_pb2

HALF_PAIRS = [
    (rb'{"key":"\ud800"}', "unexpected EOF"),
    (rb'{"limit":"\ud800"}', "unexpected EOF"),
    (rb'{"x":"\ud800"}', "unexpected EOF"),
    (rb'{"key":"\ud800abcdefgh"}', r'syntax error (line 1:8): invalid escape code "abcdef" in string'),
    (rb'{"key":"\ud800\ud800"}', r'syntax error (line 1:8): invalid escape code "\\ud800" in string'),
    (rb'{"key":"\ud800\u0041"}', r'syntax error (line 1:8): invalid escape code "\\u0041" in string'),
    (rb'{"key":"\udc00\ud800"}', r'syntax error (line 1:8): invalid escape code "\\ud800" in string'),
    (rb'{"key":"\\\ud83d\ude00\ud83d abcdef"}', r'syntax error (line 1:8): invalid escape code " abcde" in string'),
    (rb'{"key":"\ud800\n\n\n\n\n"}', r'syntax error (line 1:8): invalid escape code "\\n\\n\\n" in string'),
    (
        '{"key":"\\ud800\u00e9\u20ac\u20ac"}'.encode(),
        'syntax error (line 1:8): invalid escape code "\u00e9\u20ac\\xe2" in string',
    ),
    (b'{"key":"\\ud800\xe2\x82\xac\x80"}', 'syntax error (line 1:8): invalid escape code "\u20ac\\x80\\"}" in string'),
    (b'{"key":"\xe2\\ud800abcdef"}', "syntax error (line 1:8): invalid UTF-8 in string"),
    (rb'{"\ud800":"a"}', r'syntax error (line 1:2): invalid escape code "\":\"a\"}" in string'),
    (rb'{"\ud800abc":"a"}', r'syntax error (line 1:2): invalid escape code "abc\":\"" in string'),
    (rb'{"x":"\ud800","key":"YQ=="}', r'syntax error (line 1:6): invalid escape code "\",\"key" in string'),
    (rb'{"x":{"\ud800":1},"key":"YQ=="}', r'syntax error (line 1:7): invalid escape code "\":1},\"" in string'),
    (rb'{"x":["\ud800"] ,"y":1}', r'syntax error (line 1:7): invalid escape code "\"] ,\"y" in string'),
    (rb'{"key":"YQ==", "sort_order":"\ud800abcdefgh"}', r'syntax error (line 1:29): invalid escape code "abcdef" in string'),
    (rb'{"key":"YQ==", "serializable":"\ud800abcdefg"}', r'syntax error (line 1:31): invalid escape code "abcdef" in string'),
]
"""As etcd 3.7.3 answers; test_vs_etcd.py asks a real one."""


@pytest.mark.parametrize(("body", "text"), HALF_PAIRS)
def test_half_a_surrogate_pair_is_refused(body: bytes, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        decode(Tokens(body, *end_of_value(body, 0)), rpc_pb2.RangeRequest())
    assert caught.value.message == f"proto: {text}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\ud83d\ude00", "\U0001f600"),
        (r"\uD83D\uDE00\\ud800", "\U0001f600\\ud800"),
        (r"\\\\ud800", r"\\ud800"),
        ("\U0001f600", "\U0001f600"),
        (r"\ud7ff\ue000", "\ud7ff\ue000"),
    ],
)
def test_whole_pairs_and_escaped_backslashes_are_valid(text: str, value: str) -> None:
    request = rpc_pb2.AuthUserAddRequest()
    body = f'{{"{text}":["{text}"],"name":"{text}"}}'.encode()
    decode(Tokens(body, *end_of_value(body, 0)), request)
    assert request.name == value
