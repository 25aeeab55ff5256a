"""Check that a started member can change from its version to that of the artifact: same minor version, or the next one.

The version of the member is asked from its program (`etcd --version`), since a file or a directory may be named wrongly. etcd
supports upgrades by one minor version at a time, and no downgrade by a change of the program alone.
"""

from __future__ import annotations

import re

from tercet.deploy.ssh.host_error import HostError

_REPAIRS_MEMBERS = (3, 5, 26)
_VERSION = re.compile(r"(?:etcd Version: )?v?(\d+)\.(\d+)\.(\d+)")


def check_version_change(host: str, *, current: str, target: str) -> None:
    """current: first line of `etcd --version`. target: version of the artifact. Raises HostError; unknown versions pass."""
    old, new = _parse(current), _parse(target)
    if old is None or new is None or old[:2] == new[:2]:
        return
    shown_old, shown_new = (".".join(map(str, version)) for version in (old, new))
    if new < old:
        raise HostError(
            host,
            "plan",
            f"cannot change the engine from etcd {shown_old} to {shown_new}: a downgrade needs more than another program",
            remedy=f"set engine.source to a release of {old[0]}.{old[1]} or newer",
        )
    if (new[0], new[1]) != (old[0], old[1] + 1):
        raise HostError(
            host,
            "plan",
            f"cannot upgrade the engine from etcd {shown_old} to {shown_new}: members are upgraded one minor version at a time",
            remedy=f"apply a release of {old[0]}.{old[1] + 1} first",
        )


def warning_before(current: str, target: str) -> str:
    """What etcd's maintainers require before this change; "" if nothing.

    Up to 3.5.19 the promotion of a learner is not stored where 3.6 reads it, up to 3.5.25 members that were removed may be.
    Source: etcd issues 19557 and 20793, etcd.io/blog/2025/zombie_members_upgrade.
    """
    old, new = _parse(current), _parse(target)
    if old is None or new is None or old[:2] != (3, 5) or old >= _REPAIRS_MEMBERS or new[:2] == (3, 5):
        return ""
    shown = ".".join(map(str, old))
    return (
        f"upgrade etcd {shown} to 3.5.26 or a newer 3.5 first: in {new[0]}.{new[1]}, members that were added as learners may "
        "be learners again, and members that were removed may come back"
    )


def is_older_minor(one: str, other: str) -> bool:
    """Whether the minor version of `one` is before that of `other`; False if one of them is unknown."""
    first, second = _parse(one), _parse(other)
    return first is not None and second is not None and first[:2] < second[:2]


def _parse(text: str) -> tuple[int, int, int] | None:
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None
