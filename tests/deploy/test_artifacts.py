"""Artifacts of etcd releases, by path and by URL: content, rejected input, caching."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import io
import ssl
import struct
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tercet.deploy.cluster.settings import EngineSettings
from tercet.deploy.release.artifact import Artifact
from tercet.deploy.release.artifacts import default_cache, prepare
from tercet.deploy.release.cache import KEPT_FILES, Cache
from tercet.deploy.release.tarball import unpack
from tercet.errors import ConfigError
from tests.server.certificates import Authority
from tests.support.waiting import scaled

NAME = "etcd-v3.5.1-linux-amd64"
Entries = dict[str, bytes | tarfile.TarInfo]


def program(machine: int = 62) -> bytes:
    """An ELF header for a machine: 62 is x86_64, 183 aarch64."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine) + bytes(100)


def release(machine: int = 62, directory: str = NAME) -> Entries:
    names = ("etcd", "etcdctl", "etcdutl")
    return {f"{directory}/README.md": b"etcd"} | {f"{directory}/{name}": program(machine) for name in names}


def write(path: Path, entries: Entries) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.mtime = len(content), 0o775, 1000, 12345
            archive.addfile(entry, io.BytesIO(content))
    return path


def ready(directory: Path, source: str | Path | None, *, arch: str = "x86_64", **more: str) -> Artifact:
    settings = EngineSettings(kind="etcd", source=None if source is None else str(source), **more)
    return asyncio.run(prepare(settings, arch=arch, python=None, cache=directory / "cache"))


def refused(directory: Path, source: str | Path | None, **more: str) -> str:
    with pytest.raises(ConfigError) as caught:
        ready(directory, source, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def tarball(tmp_path: Path) -> Path:
    return write(tmp_path / f"{NAME}.tar.gz", release())


# --- content


def test_the_artifact_has_only_the_programs(tmp_path: Path, tarball: Path) -> None:
    artifact = ready(tmp_path, tarball)
    files = unpack(artifact.path, lambda _name: True)
    assert [file.path for file in files] == ["bin/etcd", "bin/etcdctl", "bin/etcdutl"]
    assert all(file.executable and file.content == program() for file in files)


def test_metadata_of_an_artifact(tmp_path: Path, tarball: Path) -> None:
    artifact = ready(tmp_path, tarball)
    content = artifact.path.read_bytes()
    assert (artifact.engine, artifact.version, artifact.size) == ("etcd", "3.5.1", len(content))
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert artifact.release == f"etcd-3.5.1-{artifact.sha256[:8]}"


def test_artifacts_are_reproducible(tmp_path: Path, tarball: Path) -> None:
    again = write(tmp_path / "etcd-v3.5.1-linux-amd64.tar.gz.again", dict(reversed(release().items())))
    here = ready(tmp_path / "a", tarball)
    there = ready(tmp_path / "b", again, version="3.5.1")
    assert here.path != there.path
    assert here.path.read_bytes() == there.path.read_bytes()


def test_entries_have_a_fixed_owner_and_time(tmp_path: Path, tarball: Path) -> None:
    with tarfile.open(ready(tmp_path, tarball).path) as archive:
        seen = {(entry.mode, entry.uid, entry.uname, entry.mtime) for entry in archive}
    assert seen == {(0o755, 0, "root", 0)}


def test_a_release_is_unpacked_once(tmp_path: Path, tarball: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every plan asks for it. Another content under the same name is another release."""
    first = ready(tmp_path, tarball)
    with monkeypatch.context() as patch:
        patch.setattr("tercet.deploy.release.etcd_tarball.unpack", None)
        assert ready(tmp_path, tarball) == first
    write(tarball, release() | {f"{NAME}/etcdutl": program() + b"changed"})
    assert ready(tmp_path, tarball).sha256 != first.sha256


def test_a_release_without_etcdutl_is_accepted(tmp_path: Path) -> None:
    entries = release(directory="etcd-v3.4.27-linux-amd64")
    del entries["etcd-v3.4.27-linux-amd64/etcdutl"]
    assert ready(tmp_path, write(tmp_path / "download", entries)).version == "3.4.27"


def test_a_release_for_another_architecture_is_rejected(tmp_path: Path) -> None:
    arm = write(tmp_path / "arm.tar.gz", release(183, "etcd-v3.5.1-linux-arm64"))
    assert ready(tmp_path, arm, arch="aarch64").version == "3.5.1"
    message = refused(tmp_path, arm)
    assert message == f"{arm}: etcd is for aarch64, but the host is x86_64"


def test_an_unknown_version_must_be_configured(tmp_path: Path) -> None:
    bare = write(tmp_path / "e.tgz", {"etcd": program(), "etcdctl": program()})
    assert "set engine.version" in refused(tmp_path, bare)
    assert ready(tmp_path, bare, version="3.6.0").version == "3.6.0"


# --- rejected input


def test_etcd_requires_a_source(tmp_path: Path) -> None:
    assert refused(tmp_path, None).startswith("engine.source: required for etcd")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path, tmp_path / "none.tar.gz") == f"{tmp_path}/none.tar.gz: No such file or directory"


def test_a_digest_mismatch_is_an_error(tmp_path: Path, tarball: Path) -> None:
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    assert ready(tmp_path, tarball, sha256=digest).version == "3.5.1"
    message = refused(tmp_path, tarball, sha256="0" * 64)
    assert message == f"{tarball}: SHA-256 mismatch: got {digest}, engine.sha256 is {'0' * 64}"


def test_a_version_mismatch_is_an_error(tmp_path: Path, tarball: Path) -> None:
    assert "version 3.5.1, but engine.version is 3.5.2" in refused(tmp_path, tarball, version="3.5.2")


@pytest.mark.parametrize("kept", [0, 10, 100, -20, -1])
def test_a_truncated_file_is_an_error(tmp_path: Path, tarball: Path, kept: int) -> None:
    tarball.write_bytes(tarball.read_bytes()[:kept])
    assert refused(tmp_path, tarball).startswith(f"{tarball}: incomplete or damaged tar.gz")


def test_a_flipped_bit_is_an_error(tmp_path: Path, tarball: Path) -> None:
    content = bytearray(tarball.read_bytes())
    content[-6] ^= 1  # in the checksum; the contents are intact
    tarball.write_bytes(content)
    assert refused(tmp_path, tarball).startswith(f"{tarball}: incomplete or damaged tar.gz (CRC check failed")


def test_a_file_that_is_not_an_archive_is_an_error(tmp_path: Path, tarball: Path) -> None:
    tarball.write_text("<html>not found</html>")
    assert "incomplete or damaged tar.gz" in refused(tmp_path, tarball)


def test_an_archive_that_is_not_a_release_is_an_error(tmp_path: Path) -> None:
    other = write(tmp_path / "other.tar.gz", {"other/README": b""})
    assert refused(tmp_path, other) == f"{other}: not an etcd release: it has no etcd"


def test_a_program_that_is_not_elf_is_an_error(tmp_path: Path) -> None:
    script = write(tmp_path / "s.tar.gz", release() | {f"{NAME}/etcdctl": b"#!/bin/sh"})
    assert "etcdctl is not a Linux program" in refused(tmp_path, script)


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"../../etc/cron.d/x": b"x"}, "its path is outside the directory"),
        ({f"{NAME}/../../x": b"x"}, "its path is outside the directory"),
        ({"/etc/cron.d/x": b"x"}, "its path is absolute"),
        ({"x": entry(f"{NAME}/x", tarfile.SYMTYPE, "/etc/passwd")}, "neither a file nor a directory"),
        ({"x": entry(f"{NAME}/x", tarfile.LNKTYPE, f"{NAME}/etcd")}, "neither a file nor a directory"),
        ({"x": entry(f"{NAME}/x", tarfile.CHRTYPE)}, "neither a file nor a directory"),
        ({"x": entry(f"{NAME}/x", tarfile.FIFOTYPE)}, "neither a file nor a directory"),
        ({f"./{NAME}/etcd": program()}, "it is a duplicate"),
    ],
)
def test_a_hostile_archive_is_rejected(tmp_path: Path, bad: Entries, reason: str) -> None:
    hostile = write(tmp_path / f"{NAME}.tar.gz", release() | bad)
    message = refused(tmp_path, hostile)
    assert "rejected because of entry" in message
    assert reason in message


def test_a_decompression_bomb_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.deploy.release.tarball.UNPACKED_BYTES_MAX", 1 << 20)
    bomb = write(tmp_path / f"{NAME}.tar.gz", {f"{NAME}/large": bytes(2 << 20)} | release())
    assert "unpacks to more than" in refused(tmp_path, bomb)


# --- downloads


class Web:
    """A server on loopback with canned responses and a request counter."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[str] = []
        self.cut = False
        self.slow = False
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                if self.path in web.redirects:
                    self.send_response(302)
                    self.send_header("Location", web.redirects[self.path])
                    self.end_headers()
                    return
                content = web.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if web.slow:
                    while True:  # until the client disconnects
                        self.wfile.write(b"x")
                        time.sleep(0.05)
                self.wfile.write(content[: len(content) // 2] if web.cut else content)

            def log_message(self, *_: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # disconnects are expected
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        scheme = "http" if context is None else "https"
        self.address = f"{scheme}://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def serve(self, name: str, content: bytes) -> str:
        self.files[f"/{name}"] = content
        return f"{self.address}/{name}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    authority = Authority(tmp_path)
    pair = authority.sign("web", "web", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    monkeypatch.setenv("SSL_CERT_FILE", authority.path)
    server = Web(context)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_download_is_cached(tmp_path: Path, web: Web, tarball: Path) -> None:
    content = tarball.read_bytes()
    address = web.serve(tarball.name, content)
    digest = hashlib.sha256(content).hexdigest()
    first = ready(tmp_path, address, sha256=digest)
    assert ready(tmp_path, address, sha256=digest) == first
    assert first.version == "3.5.1"
    assert web.asked == [f"/{tarball.name}"]


def test_plain_http_requires_a_digest(tmp_path: Path, web: Web, tarball: Path) -> None:
    address = web.serve(tarball.name, tarball.read_bytes())
    assert "set engine.sha256" in refused(tmp_path, address)
    assert web.asked == []


def test_the_digest_is_read_from_sha256sums(tmp_path: Path, secure: Web, tarball: Path) -> None:
    content = tarball.read_bytes()
    address = secure.serve(tarball.name, content)
    secure.serve("SHA256SUMS", f"{'1' * 64}  other\n{hashlib.sha256(content).hexdigest()}  {tarball.name}\n".encode())
    assert ready(tmp_path, address).version == "3.5.1"
    assert ready(tmp_path, address).version == "3.5.1"
    assert secure.asked == ["/SHA256SUMS", f"/{tarball.name}"]


def test_a_missing_entry_in_sha256sums_is_an_error(tmp_path: Path, secure: Web, tarball: Path) -> None:
    address = secure.serve(tarball.name, tarball.read_bytes())
    assert "HTTP 404" in refused(tmp_path, address)
    secure.serve("SHA256SUMS", f"{'1' * 64}  other\n".encode())
    assert f"SHA256SUMS: no entry for {tarball.name}" in refused(tmp_path, address)
    secure.serve("SHA256SUMS", f"{'1' * 64}  {tarball.name}\n".encode())
    assert f"expected {'1' * 64}; nothing was copied" in refused(tmp_path, address)


def test_redirects_from_https_to_http_are_rejected(tmp_path: Path, secure: Web, web: Web, tarball: Path) -> None:
    secure.redirects[f"/{tarball.name}"] = web.serve("elsewhere", tarball.read_bytes())
    message = refused(tmp_path, f"{secure.address}/{tarball.name}", sha256="1" * 64)
    assert message.endswith("which is not https")
    assert web.asked == []


def test_failed_downloads_are_errors(tmp_path: Path, web: Web, tarball: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tarball.read_bytes()
    address = web.serve(tarball.name, content)
    digest = hashlib.sha256(content).hexdigest()
    assert f"expected {'1' * 64}" in refused(tmp_path, address, sha256="1" * 64)
    assert "HTTP 404" in refused(tmp_path / "none", f"{web.address}/none", sha256=digest)
    web.cut = True
    assert f"of {len(content)} bytes" in refused(tmp_path / "cut", address, sha256=digest)
    web.cut = False
    monkeypatch.setattr("tercet.deploy.release.fetch.BYTES_MAX", 100)
    assert "larger than" in refused(tmp_path / "large", address, sha256=digest)
    web.close()
    web.close = lambda: None  # type: ignore[method-assign]
    assert "Connection refused" in refused(tmp_path / "gone", address, sha256=digest)


def test_progress_of_a_download(tmp_path: Path, web: Web, tarball: Path) -> None:
    content = tarball.read_bytes()
    reported: list[tuple[int, int]] = []
    settings = EngineSettings(kind="etcd", source=web.serve(tarball.name, content), sha256=hashlib.sha256(content).hexdigest())
    asyncio.run(
        prepare(
            settings, arch="x86_64", python=None, cache=tmp_path, progress=lambda done, total: reported.append((done, total))
        )
    )
    assert (len(content), len(content)) in reported


def test_a_download_can_be_cancelled(tmp_path: Path, web: Web) -> None:
    web.slow = True
    settings = EngineSettings(kind="etcd", source=web.serve("slow", bytes(1 << 20)), sha256="1" * 64)

    async def give_up() -> None:
        async with asyncio.timeout(0.3):
            await prepare(settings, arch="x86_64", python=None, cache=tmp_path)

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(give_up())  # waits for the worker threads
    assert time.monotonic() - started < scaled(20)
    assert list((tmp_path / "files").iterdir()) == []


# --- the cache


def test_a_damaged_cache_entry_is_rebuilt(tmp_path: Path, tarball: Path) -> None:
    artifact = ready(tmp_path, tarball)
    content = artifact.path.read_bytes()
    artifact.path.write_bytes(content[:-1])
    assert ready(tmp_path, tarball) == artifact
    assert artifact.path.read_bytes() == content


def test_the_cache_keeps_the_most_recently_used(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    _, first = cache.add(lambda file: file.write(b"first") and None)
    for number in range(KEPT_FILES + 3):
        cache.add(lambda file, number=number: file.write(b"%d" % number) and None)  # type: ignore[misc]
        assert cache.get(first) is not None  # marks it as used
    assert len(list((tmp_path / "cache" / "files").iterdir())) == KEPT_FILES
    assert (tmp_path / "cache" / "files").stat().st_mode & 0o777 == 0o700


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def fail(_file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        Cache(tmp_path).add(fail)
    assert list((tmp_path / "files").iterdir()) == []


def test_an_unwritable_cache_is_an_error(tmp_path: Path, tarball: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert refused(tmp_path, tarball).startswith(f"{tmp_path}/cache")


@pytest.mark.parametrize(
    ("variable", "expected"), [("/var/cache/me", "/var/cache/me/tercet"), ("", "/home/me/.cache/tercet"), ("relative", None)]
)
def test_the_cache_directory(monkeypatch: pytest.MonkeyPatch, variable: str, expected: str | None) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert default_cache() == Path(expected or "/home/me/.cache/tercet")
