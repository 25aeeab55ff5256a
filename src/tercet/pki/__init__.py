"""Certificates for a cluster on this host: two small authorities, and what members and clients need of each."""

from tercet.pki.authority import Authority, Pair
from tercet.pki.cluster import ClusterCertificates, ensure_certificates

__all__ = ["Authority", "ClusterCertificates", "Pair", "ensure_certificates"]
