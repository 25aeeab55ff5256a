"""Installation of an artifact on a host.

    INSTALL/releases/etcd-3.5.1-0a1b2c3d/bin/etcd     one directory per release, complete or absent
    INSTALL/releases/etcd-3.5.2-9f8e7d6c/bin/etcd
    INSTALL/current  -> releases/etcd-3.5.2-9f8e7d6c  used by the unit; switched by one rename
    INSTALL/previous -> releases/etcd-3.5.1-0a1b2c3d  the release before
    INSTALL/pinned                                    after a rollback: the release that apply keeps, as text
    BIN/etcd -> INSTALL/current/bin/etcd              links to the programs, if paths.bin is set

Each function returns a shell command to run as root. Commands can be repeated: after an interruption at any line the next run
finishes the job. The current and previous releases are never removed, so that a running member can still load its modules.
A command that has lost its connection goes on; another for the same directory waits for it, then fails.
"""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tercet.deploy.release.artifact import Artifact

KEPT_RELEASES = 3
_PROGRAM = {"tercet": "tercet", "etcd": "etcd"}
_TOOL = {"tercet": "tercetctl", "etcd": "etcdctl"}
_OFFLINE_TOOL = {"tercet": "tercetutl", "etcd": "etcdutl"}
PROGRAMS = {"tercet": ("tercet", "tercetctl", "tercetutl"), "etcd": ("etcd", "etcdctl", "etcdutl")}
"""The programs of a release that get links in paths.bin; etcd has etcdutl since 3.5."""


def program(artifact: Artifact, install_dir: str) -> str:
    """The program of the unit, for example /opt/tercet/current/bin/tercet."""
    return f"{install_dir}/current/bin/{_PROGRAM[artifact.engine]}"


def tool(artifact: Artifact, install_dir: str) -> str:
    """The command-line client of the engine: tercetctl or etcdctl."""
    return f"{install_dir}/current/bin/{_TOOL[artifact.engine]}"


def offline_tool(engine: str, install_dir: str) -> str:
    """The engine's program that restores snapshots: tercetutl, or etcdutl (since 3.5)."""
    return f"{install_dir}/current/bin/{_OFFLINE_TOOL[engine]}"


def release_directory(artifact: Artifact, install_dir: str) -> str:
    """The directory of the installed release; it exists only if the release is complete."""
    return f"{install_dir}/releases/{artifact.release}"


def install_command(artifact: Artifact, install_dir: str, uploaded: str) -> str:
    """Unpack the file at `uploaded` (an absolute path on the host) as a release, test it, and remove the file.

    Exit code 1 with one line on stderr if the file has the wrong digest, does not unpack or does not run; the host is then
    unchanged. The current release stays current.
    """
    return _script(
        f"""
releases={quote(install_dir)}/releases
release={quote(artifact.release)}
uploaded={quote(uploaded)}
partial=$releases/$release.partial
if [ -d "$releases/$release" ]; then rm -f "$uploaded"; exit 0; fi
[ -f "$uploaded" ] || fail "$uploaded is missing: copy it again"
digest=$(sha256sum <"$uploaded") || fail "cannot read $uploaded"
[ "${{digest%% *}}" = {artifact.sha256} ] || fail "$uploaded is damaged (SHA-256 ${{digest%% *}}): copy it again"
names=$(tar -tzf "$uploaded") || fail "cannot unpack $uploaded"
if printf '%s\\n' "$names" | grep -Eq '^/|(^|/)\\.\\.(/|$)'; then fail "$uploaded has paths outside its directory"; fi
mkdir -p "$releases" || fail "cannot create $releases"
alone "$releases"
if [ -d "$releases/$release" ]; then rm -f "$uploaded"; exit 0; fi
trap 'rm -rf "$partial"' EXIT
rm -rf "$partial"
mkdir -p "$partial" || fail "cannot create $partial"
tar -xzf "$uploaded" -C "$partial" --no-same-owner || fail "cannot unpack $uploaded into $partial (see above)"
[ -z "$(find "$partial" ! -type f ! -type d)" ] || fail "$uploaded has entries that are neither files nor directories"
cd "$partial" || fail "cannot enter $partial"
{_trial(artifact)}
cd / || exit 1
# With SELinux, set the labels that allow a unit to execute the programs.
if command -v restorecon >/dev/null 2>&1; then restorecon -R "$partial" || :; fi
# The rename may reach the disk before the contents: without this sync a power failure could leave empty files.
sync -f "$partial" 2>/dev/null || sync
mv -T "$partial" "$releases/$release" || fail "cannot rename $partial"
rm -f "$uploaded"
"""
    )


def _trial(artifact: Artifact) -> str:
    """Test that the release runs on this host and is the version that it claims to be, before it can be activated."""
    runs = '|| fail "$release does not run on this host (see above)"'
    if artifact.engine == "tercet":
        return f"./setup/setup {runs}"
    return f"""\
version=$(./bin/etcd --version) {runs}
version=$(echo "$version" | sed -n 's/^etcd Version: //p')
[ "$version" = {quote(artifact.version)} ] || fail "$release contains etcd $version"\
"""


def activate_command(artifact: Artifact, install_dir: str, bin: str | None = None) -> str:
    """Make an installed release the current one, link its programs into `bin`, and remove all but the newest releases.

    A running member keeps the release that it was started from until its restart. A regular file in `bin`, such as a manually
    copied etcd, is renamed to NAME.replaced.
    """
    return _script(
        f"""
install={quote(install_dir)}
release={quote(artifact.release)}
[ -d "$install/releases/$release" ] || fail "$install/releases/$release is not installed"
cd "$install" || fail "cannot enter $install"
alone releases
before=$(readlink current || :)
if [ "$before" != "releases/$release" ]; then
  if [ -n "$before" ] && [ -d "$before" ]; then point previous "$before"; fi
  touch "releases/$release"  # releases are ordered by last activation
  point current "releases/$release"
fi
{_link_programs(bin)}{_DROP_OLD}"""
    )


def rollback_command(install_dir: str) -> str:
    """Make the previous release the current one, and pin it: `apply` then does not activate another one."""
    return _script(
        f"""
cd {quote(install_dir)} || fail "cannot enter {install_dir}"
[ ! -d releases ] || alone releases
before=$(readlink previous || :)
[ -n "$before" ] && [ -d "$before" ] || fail "there is no previous release in {install_dir}"
now=$(readlink current || :)
echo "${{before##*/}}" >pinned.new && mv -T pinned.new pinned || fail "cannot write {install_dir}/pinned"
point current "$before"
if [ -n "$now" ] && [ -d "$now" ]; then point previous "$now"; fi
"""
    )


def pin_path(install_dir: str) -> str:
    return f"{install_dir}/pinned"


def remove_command(engine: str, install_dir: str, bin: str | None = None) -> str:
    """Remove all releases of an engine and the links to them, and restore the files that the links replaced."""
    return _script(
        f"""
install={quote(install_dir)}
{_unlink_programs(bin)}rm -f "$install/current" "$install/previous" "$install/pinned"
rm -rf "$install/releases/{engine}"-* || fail "cannot remove the releases in $install"
rmdir "$install/releases" "$install" 2>/dev/null || :
"""
    )


def _script(body: str) -> str:
    """In a subshell, to contain `exit` and `set`."""
    return f"({_PREAMBLE}{body})"


_PREAMBLE = """
set -u
umask 022
fail() { echo "$1" >&2; exit 1; }
alone() {
  exec 8<"$1" || fail "cannot open $1"
  flock -w 60 8 || fail "an earlier command is still working in $1: rerun when it has finished"
}
# rename(2) replaces a link atomically; `ln -sf` does not.
point() {
  rm -f "$1.new"
  { ln -s "$2" "$1.new" && mv -T "$1.new" "$1"; } || fail "cannot create the link $1"
}"""

_DROP_OLD = f"""\
kept=0
for old in $(ls -1t releases); do
  case "$old" in *.partial) continue ;; esac
  kept=$((kept + 1))
  [ "$kept" -gt {KEPT_RELEASES} ] || continue
  [ "releases/$old" = "$(readlink current)" ] || [ "releases/$old" = "$(readlink previous || :)" ] || rm -rf "releases/$old"
done
"""


def _link_programs(bin: str | None) -> str:
    if bin is None:
        return ""
    return f"""\
bin={quote(bin)}
mkdir -p "$bin" || fail "cannot create $bin"
for file in current/bin/*; do
  name=${{file##*/}}
  if [ "$(readlink "$bin/$name" || :)" = "$install/$file" ]; then continue; fi
  if [ -d "$bin/$name" ]; then fail "$bin/$name is a directory, cannot link it to $install/$file"; fi
  if [ -e "$bin/$name" ] && [ ! -L "$bin/$name" ] && [ ! -e "$bin/$name.replaced" ]; then
    mv -T "$bin/$name" "$bin/$name.replaced" || fail "cannot rename $bin/$name"
  fi
  point "$bin/$name" "$install/$file"
done
"""


def _unlink_programs(bin: str | None) -> str:
    if bin is None:
        return ""
    return f"""\
for link in {quote(bin)}/*; do
  case "$(readlink "$link" || :)" in
    "$install"/current/bin/*)
      rm -f "$link"
      if [ -e "$link.replaced" ]; then mv -T "$link.replaced" "$link" || fail "cannot restore $link"; fi ;;
  esac
done
"""
