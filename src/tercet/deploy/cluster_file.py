"""cluster.yaml and the objects it becomes."""

from tercet.deploy.cluster import Cluster, HostSpec
from tercet.deploy.settings import BackupSettings, EngineSettings, Listen, Paths, ServiceSettings, SshSettings, TlsSettings

__all__ = [
    "BackupSettings",
    "Cluster",
    "EngineSettings",
    "HostSpec",
    "Listen",
    "Paths",
    "ServiceSettings",
    "SshSettings",
    "TlsSettings",
]
