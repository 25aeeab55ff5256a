"""Certificates: issued like cfssl does, explained when they are rejected, and managed for a local cluster."""

from tercet.pki.authority import Authority, Pair
from tercet.pki.certificate import CertificateAndKey, days_left, load_ca
from tercet.pki.cluster import ClusterCertificates, ensure_certificates
from tercet.pki.explain import explain
from tercet.pki.issue import Issued, Profile, Request, init_ca, issue, issue_as, renew

__all__ = [
    "Authority",
    "CertificateAndKey",
    "ClusterCertificates",
    "Issued",
    "Pair",
    "Profile",
    "Request",
    "days_left",
    "ensure_certificates",
    "explain",
    "init_ca",
    "issue",
    "issue_as",
    "load_ca",
    "renew",
]
