"""Runs on the host: gathers the facts that `Wanted` requests, and changes nothing.

It is sent as text and run by the host's python3, so it may use only the standard library of Python 3.7. Stdin carries `Wanted`
as JSON, stdout the facts as JSON; `facts.py` has both types. A fact that cannot be determined on this host has its "unknown"
value (empty string, 0, null), so that one unusual host does not prevent planning.
"""

from __future__ import annotations

import errno
import grp
import hashlib
import json
import os
import platform
import pwd
import re
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, Any

CONTENT_BYTES_MAX = 1 << 20
PIECE = 1 << 20
COMMAND_SECONDS = 20
REACH_SECONDS = 3
SYNC_WRITES = 30
SYNC_BYTES = 8192
SYNC_SECONDS_MAX = 3.0
UNIT_PROPERTIES = (
    "LoadState ActiveState SubState Result UnitFileState NeedDaemonReload ExecStart InvocationID NRestarts DropInPaths "
    "ActiveEnterTimestampMonotonic ActiveExitTimestampMonotonic InactiveEnterTimestampMonotonic InactiveExitTimestampMonotonic"
)


def main(source: IO[bytes]) -> None:
    began = time.time()
    wanted = json.loads(source.read().decode())
    facts = gather(wanted)
    facts["began"], facts["ended"] = began, time.time()
    json.dump(facts, sys.stdout)


def gather(wanted: dict[str, Any]) -> dict[str, Any]:
    release = os_release()
    reachability = Reachability(wanted["reach"])
    unit = unit_fact(wanted["unit"]) if wanted["unit"] else {}
    measures = wanted["fdatasync"] and (wanted["fdatasync_beside_unit"] or unit.get("active") != "active")
    facts = {
        "hostname": socket.gethostname(),
        "os_name": release.get("PRETTY_NAME", sys.platform),
        "arch": platform.machine(),
        "python": python_version(wanted["python"]),
        "systemd": systemd_version(),
        "is_root": os.geteuid() == 0,
        "files": {path: file_fact(path, path in wanted["contents"]) for path in wanted["paths"]},
        "unit": unit,
        "users": [name for name in wanted["users"] if has(pwd.getpwnam, name)],
        "groups": [name for name in wanted["groups"] if has(grp.getgrnam, name)],
        "listeners": listeners(set(wanted["ports"])),
        "disk_free": {path: disk_free(path) for path in wanted["disks"]},
        "fdatasync_seconds": fdatasync_seconds(wanted["fdatasync"]) if measures else [],
        "addresses": [address for address in wanted["addresses"] if is_local_address(address)],
    }
    facts["versions"] = {program: output([program, "--version"]).split("\n")[0] for program in wanted["programs"]}
    facts["reached"] = reachability.result()
    return facts


def file_fact(path: str, with_content: bool) -> dict[str, Any]:
    try:
        status = os.lstat(path)
    except OSError:
        return {"kind": "absent"}
    fact = {
        "size": status.st_size,
        "mode": stat.S_IMODE(status.st_mode),
        "owner": name_of(pwd.getpwuid, status.st_uid),
        "group": name_of(grp.getgrgid, status.st_gid),
    }
    if stat.S_ISLNK(status.st_mode):
        fact.update(kind="link", target=os.readlink(path))
    elif stat.S_ISDIR(status.st_mode):
        fact.update(kind="directory", size=entries(path))
    elif not stat.S_ISREG(status.st_mode):
        fact.update(kind="file")  # reading a pipe would block
    else:
        fact.update(kind="file", **contents(path, with_content and status.st_size <= CONTENT_BYTES_MAX))
    return fact


def contents(path: str, with_content: bool) -> dict[str, Any]:
    digest = hashlib.sha256()
    whole = []
    try:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(PIECE), b""):
                digest.update(piece)
                if with_content:
                    whole.append(piece)
    except OSError:
        return {"sha256": ""}
    text = b"".join(whole)
    if not with_content or b"PRIVATE KEY" in text:
        return {"sha256": digest.hexdigest()}
    return {"sha256": digest.hexdigest(), "content": text.decode("utf-8", "replace")}


def entries(path: str) -> int:
    try:
        return len([entry for entry in os.listdir(path) if entry != "lost+found"])
    except OSError:
        return 0


def unit_fact(unit: str) -> dict[str, Any]:
    """Properties of a unit; `since` is when it entered its state."""
    unit = unit if "." in unit else unit + ".service"
    shown = output(["systemctl", "show", unit, "--property=" + UNIT_PROPERTIES.replace(" ", ",")])
    said = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    active = said.get("ActiveState", "")
    entered = {"active": "ActiveEnter", "reloading": "ActiveEnter", "activating": "InactiveExit", "deactivating": "ActiveExit"}
    moment = int(said.get(entered.get(active, "InactiveEnter") + "TimestampMonotonic") or 0)
    argv = re.search(r"argv\[\]=(.*?) ;", said.get("ExecStart", ""))
    return {
        "load": said.get("LoadState", ""),
        "active": active,
        "sub": said.get("SubState", ""),
        "result": said.get("Result", ""),
        "enabled": said.get("UnitFileState", "") == "enabled",
        "needs_reload": said.get("NeedDaemonReload", "") == "yes",
        "exec_line": argv.group(1) if argv else "",
        "since": time.time() - (time.monotonic() - moment / 1e6) if moment else 0.0,
        "invocation": said.get("InvocationID", ""),
        "restarts": int(said.get("NRestarts") or 0),
        "drop_ins": [path for path in said.get("DropInPaths", "").split() if "/" + unit + ".d/" in path],
    }


def systemd_version() -> int:
    """0 if systemd is not the init system."""
    if not os.path.isdir("/run/systemd/system"):
        return 0
    version = re.match(r"systemd (\d+)", output(["systemctl", "--version"]))
    return int(version.group(1)) if version else 0


def python_version(interpreter: str) -> list[int] | None:
    if os.path.realpath(which(interpreter)) == os.path.realpath(sys.executable):
        return list(sys.version_info[:3])
    said = output([interpreter, "-I", "-c", "import sys; print(*sys.version_info[:3])"]).split()
    return [int(word) for word in said] if len(said) == 3 else None


def listeners(ports: set[int]) -> dict[int, str]:
    """The owner of each port that has a listener, on any address."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in lines(table)[1:]:
            words = line.split()
            port = int(words[1].rpartition(":")[2], 16)
            if words[3] == "0A" and port in ports:
                inodes["socket:[" + words[9] + "]"] = port
    found = dict.fromkeys(inodes.values(), "an unknown process")
    if inodes:
        for process in os.listdir("/proc"):
            if process.isdigit():
                for inode in inodes.keys() & sockets(process):
                    found[inodes[inode]] = owner_of(process)
    return found


def sockets(process: str) -> set[str]:
    directory = "/proc/" + process + "/fd"
    found = set()
    try:
        for descriptor in os.listdir(directory):
            found.add(os.readlink(os.path.join(directory, descriptor)))
    except OSError:
        pass  # the process has exited, or access is denied
    return found


def owner_of(process: str) -> str:
    """The unit of a process, or its name."""
    for line in lines("/proc/" + process + "/cgroup"):
        unit = re.search(r"/system\.slice/(?:.*/)?([^/]+\.service)(?:/|$)", line.strip())
        if unit:
            return "unit " + unit.group(1)
    name = "".join(lines("/proc/" + process + "/comm")).strip()
    return f"process {name} (pid {process})"


def disk_free(path: str) -> int:
    try:
        disk = os.statvfs(existing(path))
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize


def fdatasync_seconds(path: str) -> list[float]:
    """Durations of small synchronous writes on the disk of a path, in ascending order. The temporary file has no name."""
    taken = []  # type: list[float]
    datasync = getattr(os, "fdatasync", os.fsync)  # macOS has none
    try:
        with tempfile.TemporaryFile(dir=existing(path)) as file:
            until = time.monotonic() + SYNC_SECONDS_MAX
            while len(taken) < SYNC_WRITES and time.monotonic() < until:
                file.write(b"\0" * SYNC_BYTES)
                file.flush()
                began = time.perf_counter()
                datasync(file.fileno())
                taken.append(time.perf_counter() - began)
    except OSError:
        return []
    return sorted(taken)


def existing(path: str) -> str:
    """The path, or its nearest existing ancestor."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def is_local_address(address: str) -> bool:
    """Whether the address can be bound."""
    try:
        family, _, _, _, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.bind(place)
    except OSError:
        return False
    return True


class Reachability:
    """Connects to addresses in parallel. A refused connection counts as reachable."""

    def __init__(self, places: list[list[Any]]) -> None:
        self.found = {}  # type: dict[str, str]
        self.threads = [threading.Thread(target=self.reach, args=place, daemon=True) for place in places]
        self.places = [f"{address}:{port}" for address, port in places]
        self.until = time.monotonic() + REACH_SECONDS + 1
        for thread in self.threads:
            thread.start()

    def reach(self, address: str, port: int) -> None:
        place = f"{address}:{port}"
        try:
            with socket.create_connection((address, port), REACH_SECONDS):
                self.found[place] = ""
        except socket.gaierror:
            self.found[place] = "host name not found"
        except TimeoutError:
            self.found[place] = f"no answer within {REACH_SECONDS} s"
        except OSError as error:
            self.found[place] = "" if error.errno == errno.ECONNREFUSED else str(error.strerror or error)

    def result(self) -> dict[str, str]:
        for thread in self.threads:
            thread.join(max(0.0, self.until - time.monotonic()))
        return {place: self.found.get(place, "no answer from the name server") for place in self.places}


def os_release() -> dict[str, str]:
    pairs = (line.strip().split("=", 1) for line in lines("/etc/os-release") if "=" in line)
    return {key: value.strip("\"'") for key, value in pairs}


def output(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=COMMAND_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def which(program: str) -> str:
    if "/" in program:
        return program
    places = (os.path.join(place, program) for place in os.environ.get("PATH", "").split(":"))
    return next((place for place in places if os.access(place, os.X_OK)), program)


def lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readlines()
    except OSError:
        return []


def has(find: Any, name: str) -> bool:
    try:
        find(name)
    except KeyError:
        return False
    return True


def name_of(find: Any, number: int) -> str:
    """The name of a user or group, or its id if it has none."""
    try:
        return str(find(number)[0])
    except KeyError:
        return str(number)
