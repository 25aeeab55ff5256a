"""From one cluster file to a running cluster on real hosts, over SSH, with systemd: facts, plan, apply."""

from tercet.deploy.cluster import Cluster, HostSpec

__all__ = ["Cluster", "HostSpec"]
