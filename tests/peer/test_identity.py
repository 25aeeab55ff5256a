"""Ids as etcd computes them: the expected numbers come from etcd 3.5.1's own member list."""

from __future__ import annotations

from tercet.peer import cluster_id, member_id

_URLS = [f"http://127.0.0.1:4210{n}" for n in (1, 2, 3)]
_IDS = [0xB5379D9B55DDB37F, 0xE483793C6BF41C8, 0xE5DA6FF306CC46A1]


def test_founders_of_a_cluster() -> None:
    assert [member_id([url], "tok") for url in _URLS] == _IDS
    assert cluster_id(_IDS) == 0xC5D79B23ABC0F662


def test_order_says_nothing() -> None:
    assert member_id(reversed(_URLS), "tok") == member_id(_URLS, "tok")
    assert cluster_id(reversed(_IDS)) == cluster_id(_IDS)


def test_the_same_urls_added_again_are_another_member() -> None:
    assert len({member_id(_URLS[:1], "", seconds) for seconds in (None, 0, 1_700_000_000)}) == 3
