"""How does a program start from a bundle, on a host of which nothing is known but that it has Python?

    bin/tercet (sh)  ->  PYTHON -I -S -B main/tercet.py  ->  tercet.cli.tercet.main()

The sh part finds its own directory through all links, so that a member keeps to the release it was started from when `current`
moves on, and it replaces itself, so that systemd watches the member. The Python part checks the version in words that any
Python understands, and takes modules from the bundle and the standard library only: no PYTHONPATH, no other packages.

bin/setup is run once, at installation: it compiles the modules, so that a start does not, and imports what a member imports.
"""

from __future__ import annotations

from shlex import quote

from tercet.deploy.release.tarball import File

PROGRAMS = ("tercet", "tercetctl")
# Where interpreters are looked for: a shell's or a unit's PATH may hold others than the one that was tried at installation.
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def launchers(*, python: tuple[int, int], interpreter: str | None) -> list[File]:
    """bin/, setup/ and main/ of a bundle.

    python: the version the bundle is for. interpreter: the cluster file's, a name or a path on the host; None looks for one.
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
# Starts {name} from this directory with the host's Python {version}; what the environment says about Python does not matter.
self=$(readlink -f -- "$0") && home=${{self%/*/*}} || exit 1
for python in {words}; do
  if found=$(PATH={SEARCH_PATH}; command -v "$python"); then exec "$found" -I -S -B "$home/main/{name}.py" "$@"; fi
done
echo {quote(f"{name}: there is no {' or '.join(candidates)} on this host")} >&2
exit 1
""".encode()


_CHECK = '''\
"""Starts NAME with the modules of this bundle and the standard library, whatever else is installed."""

import sys

if sys.version_info[:2] != (3, 11):
    sys.exit(
        "NAME: this release is for Python 3.11, and %s is Python %d.%d: apply the cluster file again, or name another "
        "interpreter there (engine.python)" % ((sys.executable,) + tuple(sys.version_info[:2]))
    )

import os

home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
lib = os.path.join(home, "lib")
sys.path.insert(0, lib)
'''

_PROGRAM = """
try:
    from tercet.cli.NAME import main

    sys.exit(main())
except ModuleNotFoundError as error:
    missing = error.name or ""
    if not missing.startswith("tercet.") and os.path.exists(os.path.join(lib, missing.split(".")[0])):
        raise
    sys.exit("NAME: a release runs members and tercetctl, and has no %s: do this where tercet is installed" % missing)
"""

_SETUP = """
import compileall
import importlib

# Sources in a release do not change: no need to look at them at each start to see whether they did.
kind = compileall.py_compile.PycInvalidationMode.UNCHECKED_HASH
compiled = compileall.compile_dir(lib, quiet=2, force=True, invalidation_mode=kind)
try:
    for module in ("tercet.server.main", "tercet.cli.tercet", "tercet.cli.tercetctl", "cryptography.x509"):
        importlib.import_module(module)
except ImportError as error:
    sys.exit("setup: tercet cannot be loaded by %s: %s" % (sys.executable, error))
sys.exit(0 if compiled else "setup: not all modules could be compiled into %s: is the disk full?" % lib)
"""
