"""How does an artifact become the engine that a host runs, and how does a host go back to the one before?

    INSTALL/releases/etcd-3.5.1-0a1b2c3d/bin/etcd     a directory a release, whole or not there
    INSTALL/releases/etcd-3.5.2-9f8e7d6c/bin/etcd
    INSTALL/current  -> releases/etcd-3.5.2-9f8e7d6c  what a unit starts: switched by one rename
    INSTALL/previous -> releases/etcd-3.5.1-0a1b2c3d  where a rollback goes
    BIN/etcd -> INSTALL/current/bin/etcd              where the tools are expected, if anywhere else

Each command is a text for sh, to be run as root, that may be run again: after a cut at any line the next run finishes the job.
A release that is current or previous is never removed, so that a member still running from it can load the rest of itself.
Commands of one directory must not run side by side.
"""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tercet.deploy.release.artifact import Artifact

KEPT_RELEASES = 3
_PROGRAM = {"tercet": "tercet", "etcd": "etcd"}
_TOOL = {"tercet": "tercetctl", "etcd": "etcdctl"}
# What shows, before a release may become current, that it runs on this host.
_TRIAL = {"tercet": "./setup/setup", "etcd": "./bin/etcd --version >/dev/null"}


def program(artifact: Artifact, install_dir: str) -> str:
    """What a unit starts, for example /opt/tercet/current/bin/tercet."""
    return f"{install_dir}/current/bin/{_PROGRAM[artifact.engine]}"


def tool(artifact: Artifact, install_dir: str) -> str:
    """The command-line client that comes with the engine: tercetctl or etcdctl."""
    return f"{install_dir}/current/bin/{_TOOL[artifact.engine]}"


def release_directory(artifact: Artifact, install_dir: str) -> str:
    """Where the release is once it is installed; the directory is there only when it is complete."""
    return f"{install_dir}/releases/{artifact.release}"


def install_command(artifact: Artifact, install_dir: str, uploaded: str) -> str:
    """Unpacks the file at `uploaded` (an absolute path on the host) as a release, tries it, and removes the file.

    Exit code 1 with one line on stderr where the file is not the one that was sent, does not unpack or does not run here; the
    host is then as it was before. What is current stays current.
    """
    return _script(
        f"""
releases={quote(install_dir)}/releases
release={quote(artifact.release)}
uploaded={quote(uploaded)}
partial=$releases/$release.partial
if [ -d "$releases/$release" ]; then rm -f "$uploaded"; exit 0; fi
[ -f "$uploaded" ] || fail "$uploaded is not there: it has to be copied again"
digest=$(sha256sum <"$uploaded") || fail "cannot read $uploaded"
[ "${{digest%% *}}" = {artifact.sha256} ] || fail "$uploaded is not what was sent (sha256 ${{digest%% *}}): copy it again"
names=$(tar -tzf "$uploaded") || fail "$uploaded does not unpack"
if printf '%s\\n' "$names" | grep -Eq '^/|(^|/)\\.\\.(/|$)'; then fail "$uploaded has paths that leave its directory"; fi
trap 'rm -rf "$partial"' EXIT
rm -rf "$partial"
mkdir -p "$partial" || fail "cannot make $partial"
tar -xzf "$uploaded" -C "$partial" --no-same-owner || fail "$uploaded could not be unpacked into $partial (see above)"
[ -z "$(find "$partial" ! -type f ! -type d)" ] || fail "$uploaded holds more than files and directories"
cd "$partial" || fail "cannot enter $partial"
{_TRIAL[artifact.engine]} || fail "$release does not run on this host (see above)"
cd / || exit 1
# Where SELinux is on, bin/ and lib/ get the labels that let a unit start what is in them.
if command -v restorecon >/dev/null 2>&1; then restorecon -R "$partial" || :; fi
# Names may reach the disk before contents: without this a power cut could leave a release of empty files.
sync -f "$partial" 2>/dev/null || sync
mv -T "$partial" "$releases/$release" || fail "cannot rename $partial"
rm -f "$uploaded"
"""
    )


def activate_command(artifact: Artifact, install_dir: str, bin: str | None = None) -> str:
    """Makes an installed release the current one, links its programs into `bin`, and drops all but the newest releases.

    A running member is not touched: it goes on with the release it was started from until it is restarted. A file in `bin` that
    is no link, say an etcd that was copied there by hand, is kept as NAME.replaced.
    """
    return _script(
        f"""
install={quote(install_dir)}
release={quote(artifact.release)}
[ -d "$install/releases/$release" ] || fail "$install/releases/$release is not there: it has to be installed first"
cd "$install" || fail "cannot enter $install"
before=$(readlink current || :)
if [ "$before" != "releases/$release" ]; then
  if [ -n "$before" ] && [ -d "$before" ]; then point previous "$before"; fi
  touch "releases/$release"  # the order in which releases were last put to use
  point current "releases/$release"
fi
{_link_programs(bin)}{_DROP_OLD}"""
    )


def rollback_command(artifact: Artifact, install_dir: str) -> str:
    """Takes the artifact's release out of use: if it is current, what was current before it is so again.

    Where another release is current there is nothing to do, so that a second run does not go forward again. Exit code 1 if
    there is nothing to go back to.
    """
    return _script(
        f"""
install={quote(install_dir)}
release={quote(artifact.release)}
cd "$install" || fail "cannot enter $install"
if [ "$(readlink current || :)" != "releases/$release" ]; then exit 0; fi
before=$(readlink previous || :)
[ -n "$before" ] && [ "$before" != "releases/$release" ] && [ -d "$before" ] ||
  fail "there is no release in $install to go back to from $release"
point current "$before"
rm -f previous
"""
    )


def remove_command(engine: str, install_dir: str, bin: str | None = None) -> str:
    """Removes all releases of an engine and the links to them; what else is in the directories stays."""
    return _script(
        f"""
install={quote(install_dir)}
{_unlink_programs(bin)}rm -f "$install/current" "$install/previous"
rm -rf "$install/releases/{engine}"-* || fail "cannot remove the releases in $install"
rmdir "$install/releases" "$install" 2>/dev/null || :
"""
    )


def _script(body: str) -> str:
    """In a shell of its own, so that `exit` and `set` end with it wherever the command is pasted."""
    return f"({_PREAMBLE}{body})"


_PREAMBLE = """
set -u
umask 022
fail() { echo "$1" >&2; exit 1; }
# rename(2) replaces a link in one step; `ln -sf` may leave a moment without one.
point() {
  rm -f "$1.new"
  { ln -s "$2" "$1.new" && mv -T "$1.new" "$1"; } || fail "cannot make the link $1"
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
mkdir -p "$bin" || fail "cannot make $bin"
for file in current/bin/*; do
  name=${{file##*/}}
  if [ "$(readlink "$bin/$name" || :)" = "$install/$file" ]; then continue; fi
  if [ -d "$bin/$name" ]; then fail "$bin/$name is a directory: a link to $install/$file belongs there"; fi
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
  case "$(readlink "$link" || :)" in "$install"/current/bin/*) rm -f "$link" ;; esac
done
"""
