"""Member and cluster ids; the expected values are etcd 3.5.1's own member list."""

from __future__ import annotations

from tercet.replica.identity import cluster_id, member_id

_URLS = [f"http://127.0.0.1:4210{n}" for n in (1, 2, 3)]
_IDS = [0xB5379D9B55DDB37F, 0xE483793C6BF41C8, 0xE5DA6FF306CC46A1]


def test_ids_of_initial_members_equal_etcds() -> None:
    assert [member_id([url], "tok") for url in _URLS] == _IDS
    assert cluster_id(_IDS) == 0xC5D79B23ABC0F662


def test_order_of_urls_and_ids_does_not_matter() -> None:
    assert member_id(reversed(_URLS), "tok") == member_id(_URLS, "tok")
    assert cluster_id(reversed(_IDS)) == cluster_id(_IDS)


def test_urls_added_again_later_get_a_new_id() -> None:
    assert len({member_id(_URLS[:1], "", seconds) for seconds in (None, 0, 1_700_000_000)}) == 3
