"""Deploy and operate a cluster on hosts with systemd, over SSH, from one cluster file: facts, plan, apply.

    deployment = Deployment(load(Path("cluster.yaml")))
    await deployment.apply()

Names are imported on first use, so that reading a cluster file does not import asyncssh.

The packages, in dependency order; each imports only from some of those before it:

    cluster/  the cluster file                draft/    creation of a cluster file
    ssh/      connections to hosts            release/  the engine as an artifact
    facts/    state of hosts, preflight       members/  client calls, services, journals
    plan/     the steps to the target state
    run/      execution of plans

`deployment.py` is the public API, exported here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tercet.deploy.cluster.cluster import Cluster, HostSpec
    from tercet.deploy.cluster.cluster_file import load
    from tercet.deploy.deployment import Deployment
    from tercet.deploy.facts.preflight_checks import Finding
    from tercet.deploy.members.members import MemberHealth, MemberStatus
    from tercet.deploy.plan.plan import Phase, Plan, Step
    from tercet.deploy.run.agreed import Declined, StalePlan
    from tercet.deploy.run.apply import PreflightFailed
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
    "StalePlan",
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
    "run.agreed": ("Declined", "StalePlan"),
    "run.apply": ("PreflightFailed",),
    "run.events": ("Event",),
    "run.executor": ("DeployError", "Interrupted"),
    "deployment": ("Deployment",),
}
_HOMES = {name: f"tercet.deploy.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
