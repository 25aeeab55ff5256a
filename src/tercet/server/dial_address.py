"""The address from which a member dials its peers, with the feature gate SetMemberLocalAddr.

A peer that verifies the addresses in certificates compares them with the source of the connection. On a host with several
addresses that must be the advertised one, not the one that the routing table prefers.

Source: etcd server/embed/config.go (InferLocalAddr).
"""

from __future__ import annotations

import logging
from ipaddress import ip_address

from tercet.config.server_config import ServerConfig
from tercet.log_fields import fields

logger = logging.getLogger(__name__)


def dial_address(config: ServerConfig) -> str:
    """The first IP address of --initial-advertise-peer-urls that is neither loopback nor unspecified.

    "" if there is none, or without the gate: then the system chooses.
    """
    if not config.feature_gates["SetMemberLocalAddr"]:
        return ""
    advertised = fields(advertise_peer_urls=[url.text for url in config.initial_advertise_peer_urls])
    logger.info("searching for a suitable member local address in AdvertisePeerURLs", extra=advertised)
    for url in config.initial_advertise_peer_urls:
        try:
            address = ip_address(url.host)
        except ValueError:
            continue  # a host name
        if not address.is_loopback and not address.is_unspecified:
            logger.info("setting member local address", extra=fields(LocalAddr=str(address)))
            return str(address)
    logger.warning("unable to set a member local address due to lack of suitable local addresses", extra=advertised)
    return ""
