"""cfssl's signing configuration (`ca-config.json`): the profiles to sign with.

    {"signing": {"default": {"expiry": "87600h"},
                 "profiles": {"kubernetes": {"usages": ["signing", "key encipherment", "server auth", "client auth"],
                                             "expiry": "87600h"}}}}

A profile inherits only URLs from the default. Differs from cfssl: an unknown profile is an error, where cfssl silently uses the
default; so are unknown usages and keys. Settings of cfssl's server (remotes, auth keys, databases, CT logs) are rejected by
name.
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
from tercet.pki.json_file import Section, Value, as_string, parse

_FOR_A_SERVER = "is a setting of cfssl's server and not supported; remove it"
_OF_A_SERVER = ("auth_key", "prev_auth_key", "remote", "auth_remote", "ct_log_servers", "cert_store")
_UNSUPPORTED: Mapping[str, str] = {
    **dict.fromkeys(_OF_A_SERVER, _FOR_A_SERVER),
    **dict.fromkeys(("policies", "allowed_extensions", "copy_extensions", "CSRWhitelist"), "is not supported"),
    **dict.fromkeys(("lint_error_level", "ignored_lints", "ignored_lint_sources"), "is not supported"),
    "ClientProvidesSerialNumbers": _FOR_A_SERVER,
}


@dataclass(frozen=True)
class SigningConfig:
    """The profiles of one file. default: used if no profile is named."""

    source: str
    default: Profile
    profiles: Mapping[str, Profile]

    def profile(self, name: str) -> Profile:
        """The profile with this name; the default for an empty name. Raises ConfigError."""
        known = ", ".join(self.profiles) or "none"
        if name and name not in self.profiles:
            near = get_close_matches(name, self.profiles, n=1)
            raise ConfigError(
                f"{self.source}: unknown profile {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"profiles: {known}")
            )
        found = self.profiles[name] if name else self.default
        if not found.usages:
            raise ConfigError(
                f"{self.source}: signing.default has no usages; select a profile with --profile (profiles: {known})"
            )
        return found


def read_config(content: bytes, source: str) -> SigningConfig:
    """Parse a configuration. source: file name for errors. Raises ConfigError naming line and key."""
    root = Section(parse(content, source))
    signing = root.section("signing")
    root.reject_unknown({"auth_keys": _FOR_A_SERVER, "remotes": _FOR_A_SERVER})
    if signing is None:
        root.value.fail("missing key 'signing'")
    default_section = signing.section("default")
    default = _profile(default_section, Profile(), is_default=True) if default_section else Profile()
    profiles_section = signing.section("profiles")
    profiles = {name: _profile(Section(value), default) for name, value in profiles_section or ()}
    signing.reject_unknown()
    return SigningConfig(source, default, profiles)


def _profile(section: Section, default: Profile, *, is_default: bool = False) -> Profile:
    listed = tuple(_checked_usage(value) for value in section.strings("usages"))
    if not listed and not is_default:
        section.value.fail("missing key 'usages'")
    expiry = section.duration("expiry")
    if expiry is None or expiry <= timedelta():
        section.value.fail("missing key 'expiry'")
    profile = Profile(
        usages=listed,
        expiry=expiry,
        backdate=section.duration("backdate") or BACKDATE,
        not_before=section.timestamp("not_before"),
        not_after=section.timestamp("not_after"),
        issuer_urls=tuple(as_string(value) for value in section.strings("issuer_urls")) or default.issuer_urls,
        ocsp_url=section.string("ocsp_url") or default.ocsp_url,
        crl_url=section.string("crl_url") or default.crl_url,
        ocsp_no_check=section.boolean("ocsp_no_check"),
        allowed_names=_pattern(section.find("name_whitelist")),
    )
    profile = _with_authority(profile, section)
    section.reject_unknown(_UNSUPPORTED)
    return profile


def _with_authority(profile: Profile, section: Section) -> Profile:
    """ca_constraint; older files have `is_ca` instead."""
    is_ca_flag = section.boolean("is_ca")
    constraint = section.section("ca_constraint")
    if constraint is None:
        return replace(profile, is_ca=is_ca_flag)
    length, zero = constraint.integer("max_path_len"), constraint.boolean("max_path_len_zero")
    is_ca = constraint.boolean("is_ca") or is_ca_flag
    constraint.reject_unknown()
    if length < 0:
        constraint.value.fail("max_path_len cannot be negative")
    return replace(profile, is_ca=is_ca, path_length=(0 if zero and not length else length or None) if is_ca else None)


def _checked_usage(value: Value) -> str:
    try:
        return usages.check(as_string(value))
    except ConfigError as error:
        value.fail(str(error))


def _pattern(value: Value | None) -> re.Pattern[str] | None:
    if value is None or value.content == "":
        return None
    try:
        return re.compile(as_string(value))
    except re.error as error:
        value.fail(f"not a regular expression: {error}")
