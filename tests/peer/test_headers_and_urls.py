"""Parsing of versions, ids and URLs from peers."""

from __future__ import annotations

import pytest

from tercet.http1.origin import parse_origin
from tercet.peer.headers import Identity, is_compatible, offers_streams, parse_id, parse_version
from tercet.peer.url_picker import UrlPicker


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("3.7.1", (3, 7)),
        ("3.10.0", (3, 10)),
        ("3.6.0-rc.1+git", (3, 6)),
        (None, (2, 0)),
        ("", (2, 0)),
        ("3", (2, 0)),
        ("v3.5.1", (2, 0)),
        ("9" * 5000 + ".0.0", (2, 0)),
    ],
)
def test_versions(text: str | None, version: tuple[int, int]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("remote", "minimum", "accepted"),
    [
        ("3.7.1", "3.0.0", True),
        ("3.0.0", "3.0.0", True),
        ("4.2.0", "3.7.0", True),
        ("4.2.0", "3.8.0", False),
        ("2.3.8", "2.1.0", False),
        (None, None, False),
    ],
)
def test_versions_compatible_with_3_7(remote: str | None, minimum: str | None, accepted: bool) -> None:
    headers = {"x-server-version": remote, "x-min-cluster-version": minimum}
    assert is_compatible({name: text for name, text in headers.items() if text is not None}, "3.7.1") is accepted


def test_only_an_old_responder_lacks_streams() -> None:
    assert offers_streams({"x-server-version": "3.5.1"}, "3.7.1")
    assert offers_streams({"x-server-version": "2.1.0"}, "3.7.1")
    assert not offers_streams({"x-server-version": "2.0.9"}, "3.7.1")
    assert not offers_streams({}, "3.7.1")


@pytest.mark.parametrize(
    ("text", "id"),
    [("e483793c6bf41c8", 0xE483793C6BF41C8), ("0", 0), ("f" * 16, 2**64 - 1), ("f" * 17, None), ("", None), (None, None)],
)
def test_ids(text: str | None, id: int | None) -> None:
    assert parse_id(text) == id


@pytest.mark.parametrize("text", ["-1", "0x1", " 1", "1_0", "g"])
def test_ids_are_hexadecimal_digits_only(text: str) -> None:
    assert parse_id(text) is None


def test_request_headers_identify_the_sender() -> None:
    identity = Identity(0xAB, 0xCD, "3.7.1", ("http://a:1", "http://b:2"))
    assert dict(identity.request_headers(to=0xEF)) == {
        "X-Server-From": "ab",
        "X-Server-Version": "3.7.1",
        "X-Min-Cluster-Version": "3.0.0",
        "X-Etcd-Cluster-ID": "cd",
        "X-PeerURLs": "http://a:1,http://b:2",
        "X-Raft-To": "ef",
    }
    assert "X-Raft-To" not in dict(identity.request_headers())


def test_origins() -> None:
    assert parse_origin("http://10.0.0.1:2380") == ("10.0.0.1", 2380, False, "10.0.0.1:2380", "")
    assert parse_origin("https://[::1]:2380/") == ("::1", 2380, True, "[::1]:2380", "")
    assert parse_origin("unix://localhost:2380") == ("localhost", 0, False, "localhost", "localhost:2380")
    assert parse_origin("unixs:///run/peer.sock") == ("localhost", 0, True, "localhost", "/run/peer.sock")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "10.0.0.1:2380",
        "http://",
        "http://a",
        "http://a:x",
        "http://a:99999",
        "ftp://a:1",
        "http://a:1/x",
        "unix://",
        "http://[a:1",
    ],
)
def test_errors_for_bad_urls_contain_the_url(url: str) -> None:
    with pytest.raises(ValueError, match="bad URL"):
        parse_origin(url)


def test_one_failure_moves_on_by_one_url() -> None:
    picker = UrlPicker(["http://a:1", "http://b:2", "http://c:3"])
    first = picker.pick()
    picker.unreachable(first)
    picker.unreachable(first)  # by another user of the picker, which had tried the same URL
    assert picker.pick().host == "b"
    picker.unreachable(picker.pick())
    picker.unreachable(picker.pick())
    assert picker.pick() == first


def test_an_update_with_a_bad_url_changes_nothing() -> None:
    picker = UrlPicker(["http://a:1"])
    for urls in ([], ["http://b:2", "nonsense"]):
        with pytest.raises(ValueError, match="URL"):
            picker.update(urls)
    assert picker.pick().host == "a"
