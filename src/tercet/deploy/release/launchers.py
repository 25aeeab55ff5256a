"""Launchers of the programs in a bundle, for hosts that need only have Python.

    bin/tercet (sh)  ->  PYTHON -I -S -B main/tercet.py  ->  tercet.cli.start.tercet()

The shell part resolves its own directory through all links, so that a running member keeps its release when `current` changes,
and uses exec, so that systemd tracks the member's process. The Python part checks the version with syntax of any Python, and
imports only from the bundle and the standard library: no PYTHONPATH, no site-packages.

setup/setup runs once at installation: it compiles the modules, to speed up starts, and imports the modules of a member.
"""

from __future__ import annotations

from shlex import quote

from tercet.deploy.release.tarball import File

PROGRAMS = ("tercet", "tercetctl", "tercetutl")
# A fixed search path: the PATH of a shell or unit may find another interpreter than the one tested at installation.
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def launchers(*, python: tuple[int, int], interpreter: str | None) -> list[File]:
    """bin/, setup/ and main/ of a bundle.

    python: version of the bundle. interpreter: engine.python, a name or a path on the host; None searches for one.
    """
    version = f"{python[0]}.{python[1]}"
    candidates = [interpreter] if interpreter else [f"python{version}", "python3"]
    bodies = {"setup": _SETUP} | {name: _PROGRAM.replace("NAME", name) for name in PROGRAMS}
    files: list[File] = []
    for name, body in bodies.items():
        check = _CHECK.replace("NAME", name).replace("(3, 11)", str(python)).replace("3.11", version)
        directory = "setup" if name == "setup" else "bin"
        files.append(File(f"{directory}/{name}", _shell(name, version, candidates), executable=True))
        files.append(File(f"main/{name}.py", f"{check}{body}".encode()))
    return files


def _shell(name: str, version: str, candidates: list[str]) -> bytes:
    words = " ".join(map(quote, candidates))
    return f"""\
#!/bin/sh
# Starts {name} from this directory with the host's Python {version}, independent of the environment.
self=$(readlink -f -- "$0") && home=${{self%/*/*}} || exit 1
for python in {words}; do
  if found=$(PATH={SEARCH_PATH}; command -v "$python"); then exec "$found" -I -S -B "$home/main/{name}.py" "$@"; fi
done
echo {quote(f"{name}: {' or '.join(candidates)} not found on this host")} >&2
exit 1
""".encode()


_CHECK = '''\
"""Starts NAME with the modules of this bundle and the standard library only."""

import sys

if sys.version_info[:2] != (3, 11):
    sys.exit(
        "NAME: this release is for Python 3.11, but %s is Python %d.%d: rerun tercet deploy apply, or set engine.python "
        "in the cluster file" % ((sys.executable,) + tuple(sys.version_info[:2]))
    )

import os

home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
lib = os.path.join(home, "lib")
sys.path.insert(0, lib)
'''

_PROGRAM = """
try:
    from tercet.cli.start import NAME

    sys.exit(NAME())
except ModuleNotFoundError as error:
    missing = error.name or ""
    if not missing.startswith("tercet.") and os.path.exists(os.path.join(lib, missing.split(".")[0])):
        raise
    sys.exit("NAME: a bundle has no %s: run this command where tercet is installed" % missing)
"""

_SETUP = """
import compileall
import importlib

# Sources in a release do not change, so starts need not check their modification times.
kind = compileall.py_compile.PycInvalidationMode.UNCHECKED_HASH
compiled = compileall.compile_dir(lib, quiet=2, force=True, invalidation_mode=kind)
try:
    programs = ("tercet.cli.start", "tercet.cli.tercet", "tercet.cli.tercetctl", "tercet.cli.tercetutl")
    for module in ("tercet.server.main", *programs, "cryptography.x509"):
        importlib.import_module(module)
except ImportError as error:
    sys.exit("setup: %s cannot import tercet: %s" % (sys.executable, error))
sys.exit(0 if compiled else "setup: cannot compile all modules in %s: is the disk full?" % lib)
"""
