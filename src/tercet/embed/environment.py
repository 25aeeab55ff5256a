"""The variables with which etcdctl and tercetctl find a server."""

from __future__ import annotations

from collections.abc import Sequence

from tercet.client.tls import TLSFiles


def client_environment(endpoints: Sequence[str], tls: TLSFiles | None = None) -> dict[str, str]:
    variables = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": ",".join(endpoints)}
    if tls is not None:
        variables |= {"ETCDCTL_CACERT": tls.cacert, "ETCDCTL_CERT": tls.cert, "ETCDCTL_KEY": tls.key}
    return variables
