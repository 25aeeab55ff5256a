"""`tercetctl`: a client for tercet and etcd with etcdctl's commands, flags, output and exit codes.

Started through a link named `etcdctl`, it calls itself that.
"""

from __future__ import annotations

from collections.abc import Sequence

from tercet.cli.ctl.command import Command, Found
from tercet.cli.ctl.flags import Values
from tercet.cli.ctl.global_flags import GLOBAL_FLAGS
from tercet.cli.ctl.program import run_program

_KEYS = "Key-value commands"
_CLUSTER = "Cluster maintenance commands"
_CONCURRENCY = "Concurrency commands"
_AUTH = "Authentication commands"
_UTILITY = "Utility commands"
_INSPECTION = "Inspection commands (not in etcdctl)"


def _command(name: str, module: str, section: str, summary: str) -> Command:
    return Command(name, summary, section=section, module=f"tercet.cli.ctl.{module}")


def _extra(name: str, module: str, summary: str) -> Command:
    """A command that etcdctl does not have."""
    return Command(name, summary, section=_INSPECTION, module=f"tercet.cli.ctl.{module}", is_extra=True)


ROOT = Command(
    "tercetctl",
    "A command line client for tercet and etcd, with etcdctl's commands.",
    flags=GLOBAL_FLAGS,
    commands=(  # in etcdctl's order, which is that of its suggestions
        _command("get", "keys:GET", _KEYS, "Read a key or a range of keys"),
        _command("put", "keys:PUT", _KEYS, "Set the value of a key"),
        _command("del", "keys:DELETE", _KEYS, "Delete a key or a range of keys"),
        _command("txn", "txn:TXN", _KEYS, "Run comparisons and operations as one transaction"),
        _command("compaction", "maintenance:COMPACTION", _KEYS, "Forget the history before a revision"),
        _command("alarm", "alarm:ALARM", _CLUSTER, "List and disarm alarms"),
        _command("defrag", "maintenance:DEFRAG", _CLUSTER, "Rewrite members' databases to release unused space"),
        _command("endpoint", "endpoint:ENDPOINT", _CLUSTER, "Show the health, status and hash of members"),
        _command("move-leader", "maintenance:MOVE_LEADER", _CLUSTER, "Hand the leadership over to another member"),
        _command("watch", "watch:WATCH", _KEYS, "Print the changes of keys as they happen"),
        _command("version", "version:VERSION", _UTILITY, "Print the version"),
        _command("lease", "lease:LEASE", _KEYS, "Grant, renew, show and revoke leases"),
        _command("member", "member:MEMBER", _CLUSTER, "List and change the members of the cluster"),
        _command("snapshot", "snapshot:SNAPSHOT", _CLUSTER, "Save a member's database to a file"),
        _command("make-mirror", "mirror:MAKE_MIRROR", _UTILITY, "Copy keys to another cluster, and keep the copy up to date"),
        _command("lock", "lock:LOCK", _CONCURRENCY, "Hold a named lock"),
        _command("elect", "elect:ELECT", _CONCURRENCY, "Campaign in an election, or follow who leads"),
        _command("auth", "auth:AUTH", _AUTH, "Switch authentication on and off"),
        _command("user", "user:USER", _AUTH, "Manage users"),
        _command("role", "role:ROLE", _AUTH, "Manage roles and their permissions"),
        _command("check", "check:CHECK", _UTILITY, "Measure the cluster under load"),
        _command("completion", "completion:COMPLETION", _UTILITY, "Print a completion script for a shell"),
        _command("downgrade", "downgrade:DOWNGRADE", _CLUSTER, "Prepare the cluster for an older version"),
        _command("options", "options:OPTIONS", _UTILITY, "Show the flags that every command takes"),
        Command("help", "Show the page of a command", section=_UTILITY),
        _extra("history", "history:HISTORY", "Show every version of a key since the last compaction"),
        _extra("deleted", "deleted:DELETED", "List deleted keys with their last values"),
        _extra("diff", "diff:DIFF", "Compare the keys of two revisions"),
        _extra("top", "top:TOP", "Show which prefixes and methods cost most"),
        _extra("doctor", "doctor.command:DOCTOR", "Examine the cluster, and say how to mend what is wrong"),
        _extra("tree", "tree:TREE", "List the children of a prefix as directories"),
    ),
    description=(
        "Every global flag has an environment variable: ETCDCTL_ENDPOINTS for --endpoints, ETCDCTL_CACERT for --cacert, ...\n"
        "Commands can be abbreviated to an unambiguous prefix: `tercetctl mem li`."
    ),
    examples=(
        "tercetctl put greeting hello",
        "tercetctl get --prefix greet",
        "tercetctl --endpoints https://10.0.0.1:2379 --cacert ca.crt --cert me.crt --key me.key endpoint health --cluster",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line. Returns etcdctl's exit code."""
    return run_program(ROOT, "etcdctl", arguments, _execute)


def _execute(found: Found, values: Values, arguments: list[str]) -> None:
    # Imported here, so that help, completion and mistakes need not wait for asyncio and protobuf.
    from tercet.cli.ctl.run import run_to_end

    run_to_end(found, values, arguments)
