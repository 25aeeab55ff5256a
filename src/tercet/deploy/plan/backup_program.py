"""The files of the backup timer on a host: its program, and the credentials of the bucket.

/opt/tercet/backup.pyz           tercet/deploy/on_host as one file, which python3 runs; the same bytes for the same sources
/etc/etcd/cert/backup.env        AWS_... variables, for root only: systemd reads them before it changes the user
"""

from __future__ import annotations

import importlib.resources
import io
import re
import zipfile
from pathlib import Path

from tercet.deploy.cluster.cluster import Cluster
from tercet.errors import ConfigError

_PACKAGE = "tercet.deploy.on_host"
_MADE = (1980, 1, 1, 0, 0, 0)
_REQUIRED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
_KNOWN = (*_REQUIRED, "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE")
_LINE = re.compile(r"(?:export\s+)?([A-Z_]+)=(['\"]?)([A-Za-z0-9/+=_.:@%-]*)\2")


def program_path(cluster: Cluster) -> str:
    return f"{cluster.paths.install}/backup.pyz"


def credentials_path(cluster: Cluster) -> str:
    return f"{cluster.paths.certificates}/backup.env"


def program() -> bytes:
    """An archive that Python runs: __main__.py, and the package under its own name."""
    sources = {
        path.name: path.read_bytes() for path in importlib.resources.files(_PACKAGE).iterdir() if path.name.endswith(".py")
    }
    directory = _PACKAGE.replace(".", "/")
    files = {"__main__.py": sources["__main__.py"], "tercet/__init__.py": b"", "tercet/deploy/__init__.py": b""}
    files |= {f"{directory}/{name}": source for name, source in sources.items() if name != "__main__.py"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _MADE), files[name])
    return buffer.getvalue()


def credentials(path: Path) -> bytes:
    """The lines of a local file that the program needs. Raises ConfigError; values are in no error."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigError(f"{path}:{number}: not NAME=VALUE with a plain value, such as AWS_REGION=eu-central-1")
        if match[1] in _KNOWN and match[3]:
            found[match[1]] = match[3]
    if absent := [name for name in _REQUIRED if name not in found]:
        raise ConfigError(f"{path}: {', '.join(absent)} missing")
    return "".join(f"{name}={found[name]}\n" for name in _KNOWN if name in found).encode()
