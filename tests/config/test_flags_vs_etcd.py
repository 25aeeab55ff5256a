"""Every flag in the help of a real etcd is one of ours, with the same default, and none says that it has no effect wrongly."""

from __future__ import annotations

import re
import subprocess
from functools import cache

from tercet.config.flag_table import FLAGS, RETIRED
from tercet.config.flags import Kind, Support
from tests.support.newer import needs_newer_etcd, newer_etcd

pytestmark = needs_newer_etcd

OTHER_TEXT = {
    "backend-batch-interval": "0s",  # the help is empty
    "backend-bbolt-freelist-type": "",  # the help names the type that "" stands for
    "compaction-batch-limit": "0",  # the help names the number that 0 stands for
    "data-dir": "",  # ${name}.etcd
    "max-concurrent-streams": "4294967295",  # math.MaxUint32
    "warning-unary-request-duration": "0s",  # the help names the duration that 0 stands for
    "watch-progress-notify-interval": "0s",
}
"""Defaults that the help of etcd words differently."""


@cache
def etcd_help() -> dict[str, str | None]:
    """Default by flag; None where the help shows none."""
    done = subprocess.run([*newer_etcd(), "--help"], capture_output=True, text=True, timeout=100, check=False)
    text = done.stdout + done.stderr
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        flag = re.match(r"\s+--([a-z0-9-]+)(?:\s+'([^']*)')?", line)
        if flag is not None:
            found.setdefault(flag[1], flag[2])
    return found


def test_every_flag_is_accepted() -> None:
    assert len(etcd_help()) > 100
    assert set(etcd_help()) - set(FLAGS) - set(RETIRED) == set()


def test_defaults_agree() -> None:
    differ = {
        name: (shown, FLAGS[name].default)
        for name, shown in etcd_help().items()
        if name in FLAGS and shown is not None and name not in OTHER_TEXT and not same(name, shown)
    }
    assert differ == {}
    assert {name: FLAGS[name].default for name in OTHER_TEXT} == OTHER_TEXT


def same(name: str, shown: str) -> bool:
    flag = FLAGS[name]
    if flag.kind is Kind.DURATION:
        return flag.parse(shown) == flag.parse(flag.default)
    return shown == flag.default


def test_a_flag_without_effect_says_why() -> None:
    for name in etcd_help():
        flag = FLAGS.get(name)
        if flag is not None and flag.support is Support.IGNORED:
            assert flag.reason, name
        assert flag is None or flag.support is not Support.REFUSED or name == "discovery"
