"""From one cluster file to a running cluster on real hosts, over SSH, with systemd: facts, plan, apply."""

from tercet.deploy.cluster import Cluster, HostSpec
from tercet.deploy.cluster_file import load

__all__ = ["Cluster", "HostSpec", "load"]
