"""--initial-cluster: parsed, and checked against the other flags about membership.

    n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n2=http://10.1.0.2:2380     n2 has two URLs

The checks apply to the first start only: once a member has data, its log holds the membership. They are pure except for the
comparison of URLs with different host names, which takes a resolver.

Source: etcd's server/config/config.go (VerifyBootstrap) and client/pkg/types/urlsmap.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tercet.config.server_config import ServerConfig
from tercet.errors import ConfigError
from tercet.gotext.urls import Url, parse_url

Resolve = Callable[[str], str]
"""Address of a host name. Raises OSError."""


def parse_initial_cluster(text: str) -> dict[str, tuple[Url, ...]]:
    """Sorted peer URLs by member name. Raises ConfigError."""
    given: dict[str, list[str]] = {}
    for part in text.split(","):
        if part:
            name, _, url = part.partition("=")
            given.setdefault(name, []).append(url)
    try:
        return {name: tuple(sorted(parse_url(url) for url in urls)) for name, urls in given.items()}
    except ValueError as error:
        raise ConfigError(f"error setting up initial cluster: {error}") from error


def initial_cluster_text(members: Mapping[str, tuple[Url, ...]]) -> str:
    return ",".join(sorted(f"{name}={url}" for name, urls in members.items() for url in urls))


def check_local_member(config: ServerConfig, members: Mapping[str, tuple[Url, ...]], resolve: Resolve) -> None:
    """The cluster contains this member with the URLs that it advertises. Raises ConfigError with etcd's text."""
    if config.name not in members:
        raise ConfigError(f'couldn\'t find local name "{config.name}" in the initial cluster configuration')
    check_advertised(config.name, config.initial_advertise_peer_urls, members[config.name], resolve)


def check_initial_members(config: ServerConfig, members: Mapping[str, tuple[Url, ...]], resolve: Resolve) -> None:
    """The checks before bootstrapping a new cluster. Raises ConfigError with etcd's text."""
    check_local_member(config, members, resolve)
    urls = [url.text for of_member in members.values() for url in of_member]
    if len(set(urls)) < len(urls):
        raise ConfigError(f"initial cluster {initial_cluster_text(members)} has duplicate url")


def check_advertised(name: str, advertised: tuple[Url, ...], named: tuple[Url, ...], resolve: Resolve) -> None:
    """The URLs of a member are those that the cluster has for it. Raises ConfigError with etcd's text."""
    difference = _difference(sorted(advertised), sorted(named), resolve)
    if not difference:
        return
    missing = sorted(set(named) - set(advertised))
    if missing:
        shown = ",".join(f"{name}={url}" for url in missing)
        flag = ",".join(url.text for url in sorted(advertised))
        raise ConfigError(f"--initial-cluster has {shown} but missing from --initial-advertise-peer-urls={flag} ({difference})")
    extra = ",".join(url.text for url in sorted(set(advertised) - set(named)))
    own = ",".join(f"{name}={url}" for url in sorted(advertised))
    raise ConfigError(f"--initial-advertise-peer-urls has {extra} but missing from --initial-cluster={own}")


def _difference(advertised: list[Url], named: list[Url], resolve: Resolve) -> str:
    """ "" if both lists resolve to the same addresses, else the first difference. Equal texts are not resolved."""
    if advertised == named:
        return ""
    if len(advertised) != len(named):
        return f"len({_listed(advertised)}) != len({_listed(named)})"
    try:
        here = sorted(_resolved(url, resolve) for url in advertised)
        there = sorted(_resolved(url, resolve) for url in named)
    except OSError as error:
        return f"failed to resolve: {error}"
    for mine, its in zip(here, there, strict=True):
        if mine != its:
            return f'resolved urls: "{mine}" != "{its}"'
    return ""


def _resolved(url: Url, resolve: Resolve) -> str:
    """The URL with its host resolved; `localhost` is kept, as by etcd."""
    if url.is_unix or url.host == "localhost":
        return url.text
    return url.with_host(resolve(url.host), url.port).text


def _listed(urls: list[Url]) -> str:
    return "[" + " ".join(f'"{url}"' for url in urls) + "]"
