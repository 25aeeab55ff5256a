"""cfssl's signing configuration (`ca-config.json`): which profiles an authority signs with.

    {"signing": {"default": {"expiry": "87600h"},
                 "profiles": {"kubernetes": {"usages": ["signing", "key encipherment", "server auth", "client auth"],
                                             "expiry": "87600h"}}}}

A profile takes from the default only the URLs that it does not set itself. Departs from cfssl in: a profile that does not exist
is an error, where cfssl quietly signs with the default; so are usages and keys that it would pass over. What belongs to its
server (remotes, keys for callers, databases, transparency logs) is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from difflib import get_close_matches

from tercet.errors import ConfigError
from tercet.pki import usages
from tercet.pki.issue import BACKDATE, Profile
from tercet.pki.json_file import Section, Value, as_text, parse

_FOR_A_SERVER = "belongs to cfssl's server, which has no counterpart here; remove it"
_OF_A_SERVER = ("auth_key", "prev_auth_key", "remote", "auth_remote", "ct_log_servers", "cert_store")
_UNSUPPORTED: Mapping[str, str] = {
    **dict.fromkeys(_OF_A_SERVER, _FOR_A_SERVER),
    **dict.fromkeys(("policies", "allowed_extensions", "copy_extensions", "CSRWhitelist"), "is not supported"),
    **dict.fromkeys(("lint_error_level", "ignored_lints", "ignored_lint_sources"), "is not supported"),
    "ClientProvidesSerialNumbers": _FOR_A_SERVER,
}


@dataclass(frozen=True)
class SigningConfig:
    """The profiles of one file. default: what is signed with where no profile is named."""

    source: str
    default: Profile
    profiles: Mapping[str, Profile]

    def profile(self, name: str) -> Profile:
        """The profile of this name; the default for an empty one. Raises ConfigError."""
        known = ", ".join(self.profiles) or "none"
        if name and name not in self.profiles:
            near = get_close_matches(name, self.profiles, n=1)
            raise ConfigError(
                f"{self.source}: there is no profile {name!r}; "
                + (f"did you mean {near[0]!r}?" if near else f"there are: {known}")
            )
        found = self.profiles[name] if name else self.default
        if not found.usages:
            raise ConfigError(f"{self.source}: signing.default has no usages; name a profile (--profile), there are: {known}")
        return found


def read_config(content: bytes, source: str) -> SigningConfig:
    """The configuration in the content of the file `source`. Raises ConfigError naming line and key."""
    root = Section(parse(content, source))
    signing = root.section("signing")
    root.end({"auth_keys": _FOR_A_SERVER, "remotes": _FOR_A_SERVER})
    if signing is None:
        root.value.refuse("has no section 'signing'")
    default_section = signing.section("default")
    default = _profile(default_section, Profile(), is_default=True) if default_section else Profile()
    profiles_section = signing.section("profiles")
    profiles = {name: _profile(Section(value), default) for name, value in profiles_section or ()}
    signing.end()
    return SigningConfig(source, default, profiles)


def _profile(section: Section, default: Profile, *, is_default: bool = False) -> Profile:
    listed = tuple(_checked_usage(value) for value in section.texts("usages"))
    if not listed and not is_default:
        section.value.refuse("has no usages")
    expiry = section.duration("expiry")
    if expiry is None or expiry <= timedelta():
        section.value.refuse("has no expiry")
    profile = Profile(
        usages=listed,
        expiry=expiry,
        backdate=section.duration("backdate") or BACKDATE,
        not_before=section.moment("not_before"),
        not_after=section.moment("not_after"),
        issuer_urls=tuple(as_text(value) for value in section.texts("issuer_urls")) or default.issuer_urls,
        ocsp_url=section.text("ocsp_url") or default.ocsp_url,
        crl_url=section.text("crl_url") or default.crl_url,
        ocsp_no_check=section.truth("ocsp_no_check"),
        allowed_names=_pattern(section.find("name_whitelist")),
    )
    profile = _with_authority(profile, section)
    section.end(_UNSUPPORTED)
    return profile


def _with_authority(profile: Profile, section: Section) -> Profile:
    """ca_constraint; `is_ca` beside it is how older files said the same."""
    old_way = section.truth("is_ca")
    constraint = section.section("ca_constraint")
    if constraint is None:
        return replace(profile, is_ca=old_way)
    length, zero = constraint.integer("max_path_len"), constraint.truth("max_path_len_zero")
    is_ca = constraint.truth("is_ca") or old_way
    constraint.end()
    if length < 0:
        constraint.value.refuse("max_path_len cannot be negative")
    return replace(profile, is_ca=is_ca, path_length=(0 if zero and not length else length or None) if is_ca else None)


def _checked_usage(value: Value) -> str:
    try:
        return usages.check(as_text(value))
    except ConfigError as error:
        value.refuse(str(error))


def _pattern(value: Value | None) -> re.Pattern[str] | None:
    if value is None or value.content == "":
        return None
    try:
        return re.compile(as_text(value))
    except re.error as error:
        value.refuse(f"not a regular expression: {error}")
