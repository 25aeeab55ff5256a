"""The tokens that `--auth-token` asks for.

    simple                                                          random, kept in memory
    jwt,sign-method=RS256,priv-key=jwt.key,ttl=10m                  signed; pub-key alone verifies only
    (empty)                                                         none

Source: etcd server/auth/store.go (NewTokenProvider) and options.go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tercet.auth import NoTokens, SimpleTokens, Tokens
from tercet.config.server_config import ServerConfig
from tercet.errors import ConfigError
from tercet.gotext.duration import parse_duration
from tercet.intake import intake_of_running_loop
from tercet.log_fields import fields
from tercet.storage.os_filesystem import reason

logger = logging.getLogger(__name__)

_SIMPLE_TTL_SECONDS: Final = 300
_JWT_TTL_SECONDS: Final = 300.0
_OPTIONS: Final = ("sign-method", "pub-key", "priv-key", "ttl")
_INVALID: Final = "auth: invalid auth options"


def make_tokens(config: ServerConfig, clock: Callable[[], float]) -> Tokens:
    """clock: for the lifetime of simple tokens, in seconds. Raises ConfigError with etcd's text."""
    try:
        return _make(config, clock)
    except ConfigError as error:
        logger.warning("failed to create token provider", extra=fields(error=str(error)))
        raise


def _make(config: ServerConfig, clock: Callable[[], float]) -> Tokens:
    kind, options = _parse(config.auth_token)
    if kind == "simple":
        logger.warning("simple token is not cryptographically signed")
        return SimpleTokens(clock=clock, ttl_seconds=config.auth_token_ttl or _SIMPLE_TTL_SECONDS)
    if kind == "jwt":
        return _jwt(options)
    if kind == "":
        return NoTokens()
    logger.warning("unknown token type", extra=fields(type=kind, error=_INVALID))
    raise ConfigError(_INVALID)


def _parse(text: str) -> tuple[str, dict[str, str]]:
    kind, *pairs = text.split(",")
    options: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or "=" in value or name in options:
            logger.error("invalid token option", extra=fields(option=name))
            raise ConfigError(_INVALID)
        options[name] = value
    return kind, options


def _jwt(options: dict[str, str]) -> Tokens:
    from tercet.auth.jwt import METHODS, JwtKey, JwtTokens  # loads the JWT library: only where it is used

    ttl_seconds = _JWT_TTL_SECONDS
    try:
        if options.get("ttl"):
            ttl_seconds = parse_duration(options["ttl"]) / 1e9
        public = _read(options.get("pub-key", ""))
        private = _read(options.get("priv-key", ""))
        method = options.get("sign-method", "")
        if method not in METHODS:
            raise ValueError("auth: invalid auth signature method")
    except (ValueError, ConfigError) as error:
        logger.error("problem loading JWT options", extra=fields(error=str(error)))
        raise ConfigError(_INVALID) from error
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        logger.warning("unknown JWT options", extra=fields(keys=unknown))
    key = JwtKey(method, private=private, public=public)
    return JwtTokens(key, ttl_seconds=ttl_seconds, now=time.time, spend=lambda work: intake_of_running_loop().spend(work))


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes() if path else b""
    except OSError as error:
        raise ConfigError(f"open {path}: {reason(error)}") from error
