"""etcd_server_apply_duration_seconds, _range_duration_seconds and _request_duration_seconds, with etcd's labels.

Source: etcd server/etcdserver/apply/uber_applier.go (dispatch), v3_server.go (getRequestType).
"""

from __future__ import annotations

from tercet.replica.durations import REQUEST_BOUNDS, Durations
from tercet.server.metrics.families import Buckets


def apply_durations(applies: Durations) -> list[Buckets]:
    """Labels: version, op, success."""
    return [
        (("v3", _operation(field), _text(is_success)), counts, total)
        for field, is_success, counts, total in applies.histograms()
    ]


def range_durations(ranges: Durations) -> list[Buckets]:
    """Labels: success."""
    return [((_text(is_success),), counts, total) for _, is_success, counts, total in ranges.histograms()]


def request_durations(writes: Durations, reads: Durations) -> list[Buckets]:
    """Labels: type, success. writes: by field of InternalRaftRequest; reads: by type."""
    found: list[Buckets] = [
        ((_operation(field), _text(is_success)), counts, total) for field, is_success, counts, total in writes.histograms()
    ]
    found += [((kind, _text(is_success)), counts, total) for kind, is_success, counts, total in reads.histograms()]
    return found


def send_durations(sends: Durations, kind: str) -> list[Buckets]:
    """Without labels. kind: of services/watch_durations.py."""
    found: list[Buckets] = [((), counts, total) for one, _, counts, total in sends.histograms() if one == kind]
    return found or [((), [0] * (len(REQUEST_BOUNDS) + 1), 0.0)]


def _operation(field: str) -> str:
    """lease_grant: LeaseGrant."""
    return "".join(word.capitalize() for word in field.split("_"))


def _text(is_success: bool) -> str:
    return "true" if is_success else "false"
