"""Which modules are compiled, and when? The metadata is in pyproject.toml; this is only what it cannot say.

`pip install .` compiles the hot rooms with mypyc, from the same typed sources that otherwise run as they are: a put then costs
the leader two thirds of the processor time (`make bench`, ARCHITECTURE.md). An editable install stays sources, so that what
is edited is what runs. Without a C compiler, or where compiling fails, the install is one of sources and says so.

    TERCET_COMPILE=0 pip install .     sources only
    TERCET_COMPILE=1 pip install .     compiled, or no install at all
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CompileError, LinkError

SOURCE = Path("src/tercet")
COMPILED = (
    "errors.py",
    "proto/wire.py",
    "raft/*.py",
    "mvcc/*.py",
    "lease/*.py",
    "replica/*.py",
    "rpc/*.py",
    "server/metrics/families.py",
    "server/replica_driver.py",
    "services/interceptors.py",
    "services/headers.py",
    "services/kv.py",
    "storage/buffered_file.py",
    "storage/callbacks.py",
    "storage/interfaces.py",
    "storage/lmdb_backend.py",
    "storage/lmdb_commit.py",
    "storage/lmdb_view.py",
    "storage/lmdb_writer.py",
    "storage/log_store.py",
    "storage/os_filesystem.py",
    "storage/wal.py",
    "storage/wal_format.py",
    "storage/write_buffer.py",
    "peer/chunked.py",
    "peer/context.py",
    "peer/frames.py",
    "peer/message_stream.py",
    "peer/msgapp_stream.py",
    "peer/peer.py",
    "peer/status.py",
    "peer/stream_reader.py",
    "peer/stream_writer.py",
    "peer/transport.py",
)
AS_THEY_ARE = {
    "replica/auto_compaction.py": "runs now and then",
    "mvcc/hash.py": "mypyc 2.4 loses the variables of its nested generators",
    "mvcc/loading.py": "runs once, at start",
    "raft/invariants.py": "checks for the simulator; mypyc 2.4 stops at a star in a subscript",
    "rpc/http_exchange.py": "plain HTTP, a few requests a minute",
}
WISH = os.environ.get("TERCET_COMPILE", "")


class CompileOrLeave(build_ext):
    """Builds all extensions or none: a module and what it is linked with must be of one build."""

    def run(self) -> None:
        try:
            super().run()
        except (BaseError, CompileError, LinkError, OSError) as error:
            if WISH == "1":
                raise
            self.warn(f"tercet is installed without compiled modules, and is slower for it: {error}")
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []


def extensions() -> list[Extension]:
    """The compiled modules, if this is a build that has any."""
    if WISH == "0" or not {"bdist_wheel", "build_ext"}.intersection(sys.argv):
        return []
    from mypyc.build import mypycify

    paths = {path for pattern in COMPILED for path in SOURCE.glob(pattern) if path.name != "__init__.py"}
    modules = sorted(map(str, paths - {SOURCE / name for name in AS_THEY_ARE}))
    # Dependencies are not there when this runs: their types count as unknown. `make lint` is where types are checked.
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    made: list[Extension] = mypycify([*options, *modules], opt_level="3", debug_level="0", group_name="tercet")
    return made


setup(ext_modules=extensions(), cmdclass={"build_ext": CompileOrLeave})
