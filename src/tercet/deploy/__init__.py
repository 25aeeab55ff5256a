"""From one cluster file to a running cluster on real hosts, over SSH, with systemd: facts, plan, apply.

    deployment = Deployment(load(Path("cluster.yaml")))
    await deployment.apply()

Names are imported when they are first used: whoever only reads a cluster file need not wait for SSH to be loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tercet.deploy.apply import Declined, PreflightFailed
    from tercet.deploy.cluster import Cluster, HostSpec
    from tercet.deploy.cluster_file import load
    from tercet.deploy.deployment import Deployment
    from tercet.deploy.events import Event
    from tercet.deploy.executor import DeployError, Interrupted
    from tercet.deploy.host_error import HostError
    from tercet.deploy.members import MemberHealth, MemberStatus
    from tercet.deploy.plan import Phase, Plan, Step
    from tercet.deploy.preflight import Finding

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
    "apply": ("Declined", "PreflightFailed"),
    "cluster": ("Cluster", "HostSpec"),
    "cluster_file": ("load",),
    "deployment": ("Deployment",),
    "events": ("Event",),
    "executor": ("DeployError", "Interrupted"),
    "host_error": ("HostError",),
    "members": ("MemberHealth", "MemberStatus"),
    "plan": ("Phase", "Plan", "Step"),
    "preflight_checks": ("Finding",),
}
_HOMES = {name: f"tercet.deploy.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
