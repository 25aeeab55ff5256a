"""The compiled modules, a release's own dependency and the long description; all other metadata is in pyproject.toml.

`pip install .` compiles the hot packages with mypyc, from the same typed sources: a put then takes two thirds of the processor
time on the leader (`make bench`, docs/performance.md). An editable install is not compiled. Without a C compiler, or if
compilation fails, the sources are installed instead, with a warning; `tercet version` shows which it is.

    TERCET_COMPILE=0 pip install .     sources only
    TERCET_COMPILE=1 pip install .     compiled, or fail

The source distribution, and what is built from it, requires `tercet-client` and leaves out the files of that distribution. What
is built from a checkout contains them, since no index has a `tercet-client` of an unreleased version: packages/README.md.

    TERCET_WHOLE=1 pip install .       from a source distribution as from a checkout
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import BaseError, CompileError, LinkError

SOURCE = Path("src/tercet")
COMPILED = (
    "client_memory.py",
    "errors.py",
    "intake.py",
    "proto/wire.py",
    "auth/*.py",
    "containers/*.py",
    "raft/*.py",
    "mvcc/*.py",
    "lease/*.py",
    "replica/*.py",
    "rpc/*.py",
    "server/metrics/families.py",
    "server/replica_driver.py",
    "services/authorization.py",
    "services/interceptors.py",
    "services/deep_txn.py",
    "services/headers.py",
    "services/kv.py",
    "services/leader_monitor.py",
    "services/lease.py",
    "services/lease_answers.py",
    "services/read_timing.py",
    "services/scheduler.py",
    "services/watch.py",
    "services/watch_durations.py",
    "storage/buffered_file.py",
    "storage/callbacks.py",
    "storage/checksums.py",
    "storage/interfaces.py",
    "storage/lmdb_backend.py",
    "storage/lmdb_commit.py",
    "storage/lmdb_view.py",
    "storage/lmdb_writer.py",
    "storage/log_store.py",
    "storage/os_filesystem.py",
    "storage/processor_wait.py",
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
    "tls/*.py",
)
NOT_COMPILED = {
    "replica/auto_compaction.py": "runs rarely",
    "replica/damaged_database.py": "runs once, at start",
    "auth/jws.py": "its work is that of the JWT library; verified tokens are remembered",
    "auth/jwt.py": "verified tokens are remembered",
    "mvcc/hash.py": "mypyc 2.4 loses variables of nested generators",
    "mvcc/loading.py": "runs once, at start",
    "raft/invariants.py": "used by the simulator only; mypyc 2.4 does not compile a star in a subscript",
    "rpc/http_exchange.py": "HTTP requests are rare",
}
COMPILE = os.environ.get("TERCET_COMPILE", "")
PYPROJECT: dict[str, Any] = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
FROM_SDIST = Path("PKG-INFO").is_file() and os.environ.get("TERCET_WHOLE", "") != "1"
"""Whether this builds from a source distribution, which alone has a PKG-INFO."""


class BuildPy(build_py):
    """From a source distribution: leaves out the files that tercet-client holds."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self._client = ClientFiles() if FROM_SDIST else None

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = super().find_package_modules(package, package_dir)
        return [one for one in found if self._client is None or not self._client.has_module(*one[:2])]

    def find_data_files(self, package: str, src_dir: str) -> list[str]:
        found: list[str] = super().find_data_files(package, src_dir)
        return [name for name in found if self._client is None or not self._client.has_data(name)]


class ClientFiles:
    """What packages/tercet-client/pyproject.toml says about the files of that distribution."""

    def __init__(self) -> None:
        tool = tomllib.loads(Path("packages/tercet-client/pyproject.toml").read_text(encoding="utf-8"))["tool"]
        self._packages = tool["tercet"]["packages"]
        self._left_out = {tuple(name.rsplit(".", 1)) for name in tool["tercet"]["left-out"]}
        (self._data,) = tool["setuptools"]["package-data"].values()

    def has_module(self, package: str, module: str) -> bool:
        return any(fnmatch(package, one) for one in self._packages) and (package, module) not in self._left_out

    def has_data(self, path: str) -> bool:
        return any(Path(path) in SOURCE.glob(pattern) for pattern in self._data)


class OptionalBuildExt(build_ext):
    """Builds all extensions or none: linked modules must be of one build."""

    def build_extensions(self) -> None:
        compile_one_by_one = self.compiler.compile

        def compile_in_parallel(sources: list[str], *arguments: Any, **options: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                made = pool.map(lambda source: compile_one_by_one([source], *arguments, **options), sources)
                return [name for names in made for name in names]

        self.compiler.compile = compile_in_parallel
        super().build_extensions()

    def run(self) -> None:
        try:
            super().run()
        except (BaseError, CompileError, LinkError, OSError) as error:
            if COMPILE == "1":
                raise
            self.warn(f"tercet is installed without compiled modules and is slower: {error}")
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []


def extensions() -> list[Extension]:
    """The modules to compile in this run of setup.py; none for an sdist or an editable install."""
    if COMPILE == "0" or not {"bdist_wheel", "build_ext"}.intersection(sys.argv):
        return []
    problem = compiler_problem()  # before mypyc spends a minute on the analysis
    if problem:
        if COMPILE == "1":
            sys.exit(f"tercet: TERCET_COMPILE=1, but {problem}")
        sys.stderr.write(f"tercet: installing without compiled modules, which makes the server slower: {problem}\n")
        return []
    from mypyc.build import mypycify

    paths = {path for pattern in COMPILED for path in SOURCE.glob(pattern) if path.name != "__init__.py"}
    modules = sorted(map(str, paths - {SOURCE / name for name in NOT_COMPILED}))
    # Dependencies are not installed in the build environment, so their types are unknown. `make lint` checks types.
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    # One C file for each module: the compiler's time for a single one grows faster than its size.
    made: list[Extension] = mypycify([*options, *modules], opt_level="3", debug_level="0", group_name="tercet", multi_file=True)
    if os.name == "posix":  # without names for the linker to look up: no other library calls the 7,000 functions
        for extension in made:
            extension.extra_compile_args.append("-fvisibility=hidden")
    return made


def compiler_problem() -> str:
    """Why a C extension cannot be compiled here; empty if it can."""
    from distutils.ccompiler import new_compiler  # setuptools provides distutils where Python no longer does
    from distutils.sysconfig import customize_compiler, get_python_inc

    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "probe.c"
        source.write_text("#include <Python.h>\n")
        compiler = new_compiler()
        customize_compiler(compiler)
        try:
            compiler.compile([str(source)], output_dir=directory, include_dirs=[get_python_inc()])
        except (BaseError, CompileError, OSError) as error:
            return f"a C compiler and Python's headers are needed (Debian: gcc python3-dev): {error}"
    return ""


def dependencies() -> list[str]:
    """Those in pyproject.toml, and a release's own: the client of the same version."""
    named: list[str] = PYPROJECT["tool"]["tercet"]["dependencies"]
    if not FROM_SDIST and "sdist" not in sys.argv:
        return named
    version = re.search(r'^__version__ = "(.*)"', (SOURCE / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert version is not None
    return [*named, f"tercet-client=={version[1]}"]


def long_description() -> str:
    """README.md with absolute links, for package indexes."""
    base = f"{PYPROJECT['project']['urls']['Repository']}/blob/main/"
    return re.sub(r"\]\((?!https?:|#)", f"]({base}", Path("README.md").read_text(encoding="utf-8"))


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": OptionalBuildExt, "build_py": BuildPy},
    install_requires=dependencies(),
    long_description=long_description(),
    long_description_content_type="text/markdown",
)
