"""From one cluster file to a running cluster on real hosts, over SSH, with systemd: facts, plan, apply.

    deployment = Deployment(load(Path("cluster.yaml")))
    await deployment.apply()

Names are imported when they are first used: whoever only reads a cluster file need not wait for SSH to be loaded.

The folders are in the order in which an `apply` needs them, and each imports only from some of those before it:

    cluster/  what is wanted: cluster.yaml        draft/    a cluster.yaml to begin with
    ssh/      hosts, and what can be done there   release/  the engine as one file
    facts/    what is, and what stands in the way members/  what the members say, start and stop
    plan/     the steps from what is to what is wanted
    run/      plans carried out

`deployment.py` is all of it as an object, and what this door shows.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tercet.deploy.cluster.cluster import Cluster, HostSpec
    from tercet.deploy.cluster.cluster_file import load
    from tercet.deploy.deployment import Deployment
    from tercet.deploy.facts.preflight import Finding
    from tercet.deploy.members.members import MemberHealth, MemberStatus
    from tercet.deploy.plan.plan import Phase, Plan, Step
    from tercet.deploy.run.apply import Declined, PreflightFailed
    from tercet.deploy.run.events import Event
    from tercet.deploy.run.executor import DeployError, Interrupted
    from tercet.deploy.ssh.host_error import HostError

__all__ = [
    "Cluster",
    "Declined",
    "DeployError",
    "Deployment",
    "Event",
    "Finding",
    "HostError",
    "HostSpec",
    "Interrupted",
    "MemberHealth",
    "MemberStatus",
    "Phase",
    "Plan",
    "PreflightFailed",
    "Step",
    "load",
]

_MODULES = {
    "cluster.cluster": ("Cluster", "HostSpec"),
    "cluster.cluster_file": ("load",),
    "ssh.host_error": ("HostError",),
    "facts.preflight_checks": ("Finding",),
    "members.members": ("MemberHealth", "MemberStatus"),
    "plan.plan": ("Phase", "Plan", "Step"),
    "run.apply": ("Declined", "PreflightFailed"),
    "run.events": ("Event",),
    "run.executor": ("DeployError", "Interrupted"),
    "deployment": ("Deployment",),
}
_HOMES = {name: f"tercet.deploy.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
