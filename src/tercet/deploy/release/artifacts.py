"""Create the artifact for a host.

`prepare` converts the `engine` section of the cluster file to one local file, with the same layout for both engines: a tar.gz
with bin/ (and lib/ for tercet), which `release.py` installs. It is built once and cached by content.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tercet import __version__
from tercet.deploy.release import bundle, etcd_tarball
from tercet.deploy.release.artifact import Artifact
from tercet.deploy.release.cache import Cache, file_sha256, pack_once
from tercet.deploy.release.elf import architecture
from tercet.deploy.release.fetch import fetch, is_url, published_sha256
from tercet.errors import ConfigError

if TYPE_CHECKING:
    from tercet.deploy.cluster.settings import EngineSettings

_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~-]*")
Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in total (0 if unknown), from any thread."""


def default_cache() -> Path:
    """$XDG_CACHE_HOME/tercet, by default ~/.cache/tercet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "tercet"


async def prepare(
    engine: EngineSettings,
    *,
    arch: str,
    python: tuple[int, int] | None,
    cache: Path,
    progress: Progress | None = None,
) -> Artifact:
    """The artifact for hosts of this architecture, from the cache if possible.

    arch: the host's `uname -m`. python: the host's version, used for tercet only; None means the local version.
    Raises ConfigError with file or URL and remedy if the engine is unavailable or does not match the settings.
    """
    cancelled = threading.Event()

    def watcher(done: int, total: int) -> None:
        if cancelled.is_set():
            raise ConfigError("cancelled")  # ends the worker thread; nobody sees the text
        if progress is not None:
            progress(done, total)

    try:
        return await asyncio.to_thread(_prepare, engine, architecture(arch), python, Cache(cache), watcher)
    except asyncio.CancelledError:
        cancelled.set()
        raise


def _prepare(
    engine: EngineSettings, arch: str, python: tuple[int, int] | None, cache: Cache, watcher: Callable[[int, int], None]
) -> Artifact:
    try:
        if engine.kind == "etcd":
            return _etcd(engine, arch, cache, watcher)
        if engine.source is not None:
            path = _source(engine, cache, watcher)
            name = _source_name(engine.source)
            return _artifact(engine, bundle.version_of(path, name=name, arch=arch, python=python), path)
        target = bundle.Target(arch, python or sys.version_info[:2], engine.python)
        path = bundle.build(target, cache, watcher)
    except OSError as error:
        raise ConfigError(f"{error.filename or cache.directory}: {error.strerror or error}") from error
    if engine.sha256 is not None and file_sha256(path) != engine.sha256.lower():
        raise ConfigError(
            "engine.sha256 requires engine.source: without a source, the bundle is built from the local installation"
        )
    return _artifact(engine, __version__, path)


def _etcd(engine: EngineSettings, arch: str, cache: Cache, watcher: Callable[[int, int], None]) -> Artifact:
    """etcd's programs only, repacked: hosts never unpack third-party archives. A release is unpacked here once."""
    if engine.source is None:
        raise ConfigError("engine.source: required for etcd: path or URL of a release, etcd-vX.Y.Z-linux-ARCH.tar.gz")
    tarball, source = _source(engine, cache, watcher), _source_name(engine.source)
    name = f"programs of {file_sha256(tarball)} {source} {arch} {engine.version}"
    version, path = cache.recall_text(f"version of {name}"), cache.recall(name)
    if not version or path is None:
        version, programs = etcd_tarball.read(tarball, name=source, arch=arch, version=engine.version)
        path = pack_once(programs, cache, watcher)
        cache.remember(name, path.name)
        cache.remember(f"version of {name}", version)
    return _artifact(engine, version, path)


def _source(engine: EngineSettings, cache: Cache, watcher: Callable[[int, int], None]) -> Path:
    """The file named by engine.source, verified."""
    source, sha256 = str(engine.source), (engine.sha256 or "").lower()
    if not is_url(source):
        if sha256 and (got := file_sha256(Path(source))) != sha256:
            raise ConfigError(f"{source}: SHA-256 mismatch: got {got}, engine.sha256 is {sha256}")
        return Path(source)
    published = f"published at {source}"  # downloaded once: releases are immutable
    path = cache.get(sha256) if sha256 else cache.recall(published)
    if path is None:
        sha256 = sha256 or published_sha256(source)
        path = cache.get(sha256) or fetch(source, sha256, cache, watcher)
        cache.remember(published, sha256)
    return path


def _source_name(source: str) -> str:
    """The name for messages and for the version in the file name."""
    return source.split("?", 1)[0] if is_url(source) else source


def _artifact(engine: EngineSettings, version: str, path: Path) -> Artifact:
    if not _VERSION.fullmatch(version):  # it becomes part of a path on the hosts
        raise ConfigError(f"{engine.source}: {version!r} is not a version")
    if engine.version is not None and engine.version.removeprefix("v") != version:
        raise ConfigError(
            f"engine.version: expected {engine.version}, but {engine.source or 'the local installation'} is {version}"
        )
    sha256 = file_sha256(path)
    return Artifact(
        engine=engine.kind,
        version=version,
        path=path,
        sha256=sha256,
        size=path.stat().st_size,
        release=f"{engine.kind}-{version}-{sha256[:8]}",
    )
