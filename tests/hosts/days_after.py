"""What operators do after the first day, each under a writer that loses no acknowledged write; the same for both engines.

Every function is one story on three running members, and leaves three healthy ones.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping

import pytest

from tercet.errors import ConfigError
from tercet.pki.age import Key, decrypt, new_key
from tests.hosts.network import HOSTS, OPERATOR_ADDRESS
from tests.hosts.observations import wait_until
from tests.hosts.session import JUDGES, Operator
from tests.hosts.writer import writing
from tests.support.waiting import scaled

PAUSE_SECONDS_MAX = scaled(30)  # about 1 on an idle machine


@contextlib.contextmanager
def under_writes(operator: Operator) -> Iterator[None]:
    """Check that the block loses no acknowledged write and never stops writes for long."""
    env = operator.client_environment()
    with writing(operator, env) as written:
        yield
    assert not written.lost(operator, operator.client_environment())
    assert written.longest_gap_seconds < PAUSE_SECONDS_MAX


def invocations(operator: Operator) -> dict[str, str]:
    return {host: operator.unit(host)["InvocationID"] for host in HOSTS}


def rotate_the_certificates_and_the_ca(operator: Operator) -> None:
    """In stages, so that the writer is given the new CA, then a new certificate, as other clients are."""
    pki = operator.directory / "pki"
    shutil.copytree(pki, operator.directory / "pki-before")
    nothing = operator.deploy("certs", "renew", "--due", "--yes")
    assert "no certificate is due" in nothing
    for stage in (("--until", "trust"), ("--until", "certificates"), ()):
        with under_writes(operator):
            operator.deploy("certs", "rotate", "--ca", *stage, "--yes", timeout=300)
        assert len(operator.healthy_lines()) == 3
    assert (pki / "ca.pem").read_text().count("BEGIN CERTIFICATE") == 1
    env = operator.client_environment()
    old = {name: value.replace("/pki/", "/pki-before/") for name, value in env.items()}
    operator.etcdctl("put", "x", "1", env=env)
    impatient = ("--dial-timeout=2s", "--command-timeout=3s", "put", "x", "1")
    operator.etcdctl(*impatient, exit_code=1, env=env | {"ETCDCTL_CACERT": old["ETCDCTL_CACERT"]})
    names = ("ETCDCTL_CERT", "ETCDCTL_KEY")
    operator.etcdctl(*impatient, exit_code=1, env=env | {name: old[name] for name in names})
    assert "nothing to do" in operator.deploy("plan").output.lower()


def replace_a_member_that_lost_its_disk(operator: Operator) -> None:
    victim = next(host for host in HOSTS if host != operator.leader())
    healthy = next(host for host in HOSTS if host != victim)
    with under_writes(operator):
        operator.on(victim, "systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf /var/lib/etcd/member")
        refused = operator.deploy("member", "remove", healthy, "--yes", exit_code=1)
        assert f"not removed: {victim} is not healthy" in refused
        advised = operator.deploy("apply", "--yes", exit_code=1)
        assert f"member replace {victim}" in advised
        before = invocations(operator)
        operator.deploy("member", "replace", victim, "--yes")
        assert {host for host, run in invocations(operator).items() if run != before[host]} == {victim}
    assert len(operator.healthy_lines()) == 3
    assert "nothing to do" in operator.deploy("plan").output.lower()


def shrink_to_two_and_grow_to_three(operator: Operator) -> None:
    last = list(HOSTS)[-1]
    kept = operator.directory / "kept.yaml"
    shutil.copy(operator.directory / "cluster.yaml", kept)
    with under_writes(operator):
        operator.deploy("member", "remove", last, "--yes")
        operator.edit(lambda settings: settings["hosts"].pop())
        assert "nothing to do" in operator.deploy("plan").output.lower()
        shutil.copy(kept, operator.directory / "cluster.yaml")
        assert f"member add {last}" in operator.deploy("plan", exit_code=1)
        before = invocations(operator)
        operator.deploy("member", "add", last, "--yes")
        assert {host for host, run in invocations(operator).items() if run != before[host]} == {last}
    assert len(operator.healthy_lines()) == 3
    assert "is a member" in operator.deploy("member", "add", last, "--yes")


def upgrade_member_by_member(operator: Operator) -> None:
    """The cluster file has the other release already."""
    assert operator.deploy("plan", "--detailed-exitcode", exit_code=2)
    shutil.rmtree(operator.directory / "backups", ignore_errors=True)
    with under_writes(operator):
        operator.deploy("upgrade", "--yes", timeout=300)
    assert len(operator.healthy_lines()) == 3
    assert len(list((operator.directory / "backups").iterdir())) == 1
    operator.deploy("plan", "--detailed-exitcode")


def roll_back_and_stay_there(operator: Operator) -> None:
    with under_writes(operator):
        operator.deploy("rollback", "--yes")
    kept = operator.deploy("apply", "--yes")
    assert "rolled back" in kept
    assert "Nothing to do" in kept
    operator.deploy("upgrade", "--yes", "--no-backup")
    operator.deploy("plan", "--detailed-exitcode")


def free_space_and_back_up(operator: Operator) -> None:
    with under_writes(operator):
        operator.deploy("compact", "--keep", "10", "--yes")
        operator.deploy("defrag", "--all", "--yes")
    assert "QUOTA USED" in operator.deploy("status")
    shutil.rmtree(operator.directory / "backups", ignore_errors=True)
    operator.deploy("backup")
    operator.deploy("backup", "--keep", "1")
    [saved] = (operator.directory / "backups").iterdir()
    assert saved.stat().st_mode & 0o777 == 0o600
    status = operator.run(str(JUDGES / "etcdutl"), "snapshot", "status", str(saved), "--write-out=json")
    found = json.loads(status.output.splitlines()[-1])
    assert found["totalKey"] > 0
    assert f"hash {found['hash']:x}" in operator.transcript


@contextlib.contextmanager
def bucket_server(operator: Operator) -> Iterator[str]:
    """An S3 server beside the operator, with the bucket `timers`; its URL, as the hosts reach it."""
    url = f"http://{OPERATOR_ADDRESS}:5555"
    create = f"import urllib.request as u; u.urlopen(u.Request('{url}/timers', method='PUT'), timeout=5)"
    with operator.start(sys.executable, "-m", "moto.server", "-H", OPERATOR_ADDRESS, "-p", "5555") as server:

        def is_created() -> bool:
            assert server.poll() is None, f"the S3 server ended: {server.communicate()[0]}"
            return operator.run(sys.executable, "-c", create, exit_code=None).exit_code == 0

        wait_until(is_created, seconds=60)
        yield url


def back_up_on_the_hosts(operator: Operator) -> None:
    """The timer's snapshots: compared with the member, encrypted, in the bucket; who steals one cannot read it."""
    key, secret = new_key(), "not-for-the-log"
    env = operator.client_environment()
    operator.etcdctl("put", "private", "the stolen value", env=env)
    with bucket_server(operator) as url:
        lines = ["AWS_ACCESS_KEY_ID=id", f"AWS_SECRET_ACCESS_KEY={secret}", "AWS_REGION=us-east-1", f"AWS_ENDPOINT_URL={url}"]
        operator.write("aws.env", "\n".join(lines)).chmod(0o600)
        operator.set("backups", {"recipient": key.recipient, "to": "s3://timers/etcd", "credentials": "aws.env"})
        before = invocations(operator)
        operator.deploy("apply", "--yes")
        assert invocations(operator) == before, "no member restarts for a change of its backups"
        assert "nothing to do" in operator.deploy("plan").output.lower()
        for host in HOSTS:
            operator.on(host, "systemctl start etcd-backup", exit_code=None)
            said = operator.on(host, "journalctl -u etcd-backup -o cat --no-pager")
            assert operator.unit(host, "etcd-backup")["Result"] == "success", said
            assert re.search(r"restored, hash [0-9a-f]+ at revision \d+ as on the member", said)
            assert f"stored s3://timers/etcd/{host}-" in said
            check_encrypted(operator, host, key)
            assert operator.on(host, "stat -c '%a %U' /etc/etcd/cert/backup.env") == "600 root"
            assert secret not in operator.on(host, "journalctl -o cat --no-pager; cat /etc/systemd/system/etcd-backup.service")
    operator.set("backups", {"recipient": None, "to": None, "credentials": None})
    operator.deploy("apply", "--yes")
    assert operator.on(next(iter(HOSTS)), "ls /etc/etcd/cert/backup.env 2>&1 || true").endswith("No such file or directory")


def check_encrypted(operator: Operator, host: str, key: Key) -> None:
    """All snapshots that a host keeps: for the key they are snapshots, for others noise."""
    directory = operator.machine(host).root / "var/backups/etcd"
    newest = max(directory.glob(f"{host}-*.db.age"))
    assert newest.stat().st_mode & 0o777 == 0o600
    assert b"the stolen value" not in newest.read_bytes()
    plain = operator.directory / f"{host}.db"
    with pytest.raises(ConfigError, match="encrypted for another key"):
        decrypt(newest, plain, new_key())
    decrypt(newest, plain, key)
    operator.run(str(JUDGES / "etcdutl"), "snapshot", "status", str(plain))
    assert not [path.name for path in directory.iterdir() if path.name.endswith((".new", ".part", ".scratch"))]


def restore_a_snapshot(operator: Operator) -> None:
    """Keys come back as they were, no revision is assigned twice, and watchers of the old ones notice."""
    env = operator.client_environment()
    operator.etcdctl("put", "kept", "as it was", env=env)
    operator.deploy("backup", "--to", "restorable")
    [saved] = (operator.directory / "restorable").iterdir()
    operator.etcdctl("put", "kept", "overwritten", env=env)
    operator.etcdctl("put", "later", "lost by the restore", env=env)
    before = revision(operator, env)
    command = (str(operator.program), "deploy", "restore", str(saved))
    asked = operator.converse(*command, answers=[("to confirm:", "yes")], exit_code=1)
    assert "not confirmed" in asked
    assert operator.etcdctl("get", "later", "--print-value-only", env=env).output.strip() == "lost by the restore"
    operator.deploy("restore", str(saved), "--yes", timeout=300)
    check_restored(operator, env, before)
    assert len(list((operator.directory / "backups").glob("*-before-restore-*.db"))) == 1


def check_restored(operator: Operator, env: dict[str, str], before: int) -> None:
    """before: a revision that was reached before the restore."""
    assert len(operator.healthy_lines(env)) == 3
    assert operator.etcdctl("get", "kept", "--print-value-only", env=env).output.strip() == "as it was"
    assert operator.etcdctl("get", "later", "--print-value-only", env=env).output.strip() == ""
    assert revision(operator, env) > before
    watched = operator.etcdctl("watch", "kept", f"--rev={before + 1}", exit_code=None, env=env)
    assert "required revision has been compacted" in watched
    assert "nothing to do" in operator.deploy("plan").output.lower()


def revision(operator: Operator, env: dict[str, str]) -> int:
    return max(int(status["header"]["revision"]) for status in operator.statuses(env).values())


def cut_the_power_during_a_restore(operator: Operator) -> None:
    """One host loses its power when a step is done there; the same command finishes the restore."""
    env = operator.client_environment()
    [saved] = (operator.directory / "restorable").iterdir()
    victim = list(HOSTS)[-1]
    for step in ("copy the snapshot", "stop and disable etcd.service", "enable etcd.service"):
        before = revision(operator, env)
        operator.etcdctl("put", "kept", "overwritten", env=env)
        cut_power_after(operator, victim, step, "deploy", "restore", str(saved), "--no-backup", "--yes")
        refused = operator.deploy("apply", "--yes", exit_code=1)
        assert "a restore has not finished" in refused
        operator.deploy("restore", str(saved), "--no-backup", "--yes", timeout=300)
        check_restored(operator, env, before)


def cut_power_after(
    operator: Operator,
    host: str,
    step: str,
    *arguments: str,
    is_last: bool = False,
    lane: str | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Run a command; `host` loses its power when this step is done there, and is booted again when the command has ended.

    is_last: there is nothing left to do there after the step, so the command may have succeeded before the cut. lane: where the
    step is done, if not on `host`. meanwhile: called while the host is down, after the command.
    """
    with operator.start(str(operator.program), *arguments) as process:
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line
            if re.match(rf"{lane or host} +{re.escape(step)}  done", line):
                break
        else:
            raise AssertionError(f"{step!r} was not done on {lane or host}:\n{output}")
        operator.lab.kill(host)
        rest, _ = process.communicate(timeout=300)
    operator.show(f"$ tercet {' '.join(arguments)}\n{output}{rest}[{host} lost its power after {step!r}]")
    assert process.returncode == 1 or (is_last and process.returncode == 0), output + rest
    try:
        meanwhile()
    finally:
        operator.lab.boot(host)


def recover_from_a_lost_majority(operator: Operator) -> None:
    """Two hosts are lost, one with its disk; the survivor loses its power in the middle of the recovery; then both come back.

    The one that has its data starts by itself, and must not serve or vote: it is no member any more.
    """
    env = operator.client_environment()
    operator.etcdctl("put", "kept", "by the survivor", env=env)
    assert "a majority commits" in operator.deploy("recover", "--yes")
    survivor, emptied, returning = HOSTS
    lost = (emptied, returning)
    operator.on(emptied, "systemctl kill -s KILL etcd; systemctl stop etcd; rm -rf /var/lib/etcd/member")
    for host in lost:
        operator.lab.kill(host)
    options = [word for host in lost for word in ("--lost", host)]
    refused = operator.deploy("recover", "--yes", exit_code=1)
    assert f"If they are lost for good: {' '.join(options)}" in refused
    cut_power_after(operator, survivor, "keep a copy of the data", "deploy", "recover", *options, "--yes")
    recovered = operator.deploy("recover", *options, "--yes", timeout=300)
    assert "the cluster continues from entry" in recovered
    alone = env | {"ETCDCTL_ENDPOINTS": f"https://{HOSTS[survivor]}:2379"}
    assert operator.etcdctl("get", "kept", "--print-value-only", env=alone).output.strip() == "by the survivor"
    for host in lost:
        operator.lab.boot(host)
    wait_until(lambda: has_left(operator, returning), seconds=120)
    aged = env | {"ETCDCTL_ENDPOINTS": f"https://{HOSTS[returning]}:2379"}
    operator.etcdctl("--dial-timeout=2s", "--command-timeout=3s", "get", "kept", "--consistency=s", exit_code=1, env=aged)
    joined = operator.deploy("recover", "--yes", timeout=300)
    assert [line for line in joined.lines if line.startswith(f"{returning}  move the earlier data aside  done")]
    assert len(operator.healthy_lines(env)) == 3
    assert operator.etcdctl("get", "kept", "--print-value-only", env=env).output.strip() == "by the survivor"
    drop_ins = operator.on(survivor, "ls /run/systemd/system/etcd.service.d", exit_code=None)
    assert "force-new-cluster" not in drop_ins
    operator.deploy("restart")
    assert len(operator.healthy_lines(env)) == 3
    assert "nothing to do" in operator.deploy("plan").output.lower()


def fence_the_majority_that_was_left_behind(operator: Operator) -> None:
    """The lost hosts come back with their data, while the survivor is away: they are the majority of before, and serve.

    The first command that reaches them stops them.
    """
    env = operator.client_environment()
    survivor, *lost = HOSTS
    for host in lost:
        operator.lab.kill(host)
    options = [word for host in lost for word in ("--lost", host)]
    recovered = operator.deploy("recover", *options, "--yes", timeout=300)
    assert f"{', '.join(lost)} are a majority of the cluster before, and cannot be fenced" in recovered
    alone = env | {"ETCDCTL_ENDPOINTS": f"https://{HOSTS[survivor]}:2379"}
    operator.etcdctl("put", "kept", "after the recovery", env=alone)
    operator.lab.kill(survivor)
    for host in lost:
        operator.lab.boot(host)
    before = env | {"ETCDCTL_ENDPOINTS": ",".join(f"https://{HOSTS[host]}:2379" for host in lost)}
    put = ("--dial-timeout=2s", "--command-timeout=3s", "put", "astray", "1")
    wait_until(lambda: operator.etcdctl(*put, exit_code=None, env=before).exit_code == 0, seconds=120)
    shown = operator.deploy("status", exit_code=None)
    for host in lost:
        assert f"{host}: left behind by the recovery of" in shown
    assert "left behind by the recovery of" in operator.deploy("restart", lost[0], exit_code=1)
    for host in lost:
        assert (operator.unit(host)["ActiveState"], operator.unit(host)["UnitFileState"]) == ("inactive", "disabled")
    operator.etcdctl(*put, exit_code=1, env=before)
    operator.lab.boot(survivor)
    operator.deploy("recover", "--yes", timeout=300)
    assert len(operator.healthy_lines(env)) == 3
    assert operator.etcdctl("get", "kept", "--print-value-only", env=env).output.strip() == "after the recovery"
    assert operator.etcdctl("get", "astray", "--print-value-only", env=env).output.strip() == ""
    assert not list(operator.directory.glob("*.left-behind.json"))
    assert "nothing to do" in operator.deploy("plan").output.lower()


def has_left(operator: Operator, host: str) -> bool:
    """Whether the member has been told that it was removed, and has stopped; systemd tries it again, and it ends again."""
    journal = operator.machine(host).inside("journalctl -b -u etcd -o cat --no-pager").stdout
    return "permanently removed from the cluster" in journal and operator.unit(host)["ActiveState"] != "active"


def cut_the_power_in_each_verb(operator: Operator, *, other_release: Mapping[str, str]) -> None:
    """A host loses its power in the middle of a command; the others serve, and the same command finishes the job.

    other_release: fields of `engine` that make another release.
    """
    env = operator.client_environment()
    victim = list(HOSTS)[-1]
    others = env | {"ETCDCTL_ENDPOINTS": ",".join(f"https://{HOSTS[host]}:2379" for host in HOSTS if host != victim)}

    def finished_after_a_cut(step: str, *verb: str, is_last: bool = False) -> None:
        def serves() -> None:
            put = ("--command-timeout=60s", "put", "cut in", verb[0])  # a write sent to a dead leader times out: retried
            wait_until(lambda: operator.etcdctl(*put, exit_code=None, env=others).exit_code == 0, seconds=60)

        cut_power_after(operator, victim, step, "deploy", *verb, is_last=is_last, meanwhile=serves)
        operator.deploy(*verb, timeout=300)
        assert len(operator.healthy_lines(env)) == 3

    operator.set("flags", {"heartbeat-interval": "120"})
    finished_after_a_cut("write /etc/systemd/system/etcd.service", "apply", "--yes")
    finished_after_a_cut("write /etc/etcd/cert/server.pem and its key", "certs", "rotate", "--yes")
    finished_after_a_cut("add as learner", "member", "replace", victim, "--yes")
    finished_after_a_cut("defragment", "defrag", victim, "--all", "--yes", is_last=True)
    operator.set("engine", other_release)
    finished_after_a_cut("upgrade", "upgrade", "--no-backup", "--yes", is_last=True)
    finished_after_a_cut("roll back", "rollback", "--yes", is_last=True)
    operator.deploy("upgrade", "--no-backup", "--yes")
    assert "nothing to do" in operator.deploy("plan").output.lower()


def cut_the_power_in_changes_of_the_membership(operator: Operator) -> None:
    """As above, for the verbs that change who is a member, whom it trusts, and whether there is a cluster."""
    env = operator.client_environment()
    victim = list(HOSTS)[-1]

    def is_stopped() -> bool:
        unit = operator.unit(victim)
        return (unit["ActiveState"], unit.get("UnitFileState", "disabled")) == ("inactive", "disabled")

    rotate = ("deploy", "certs", "rotate", "--ca", "--yes")
    cut_power_after(operator, victim, "write /etc/etcd/cert/ca.pem", *rotate)
    wait_until(lambda: operator.unit(victim)["ActiveState"] == "active", seconds=120)
    cut_power_after(operator, victim, "write /etc/etcd/cert/server.pem and its key", *rotate)
    finished = operator.tercet(*rotate, exit_code=None, timeout=300)
    if finished.exit_code:  # the cut came before the certificate of the new key was written, so the member does not start
        assert f"{victim}: plan: etcd.service is not running" in finished
        assert "run `tercet deploy apply` first" in finished
        operator.deploy("apply", "--yes", timeout=300)
        operator.tercet(*rotate, timeout=300)
    assert len(operator.healthy_lines(env)) == 3
    remove = ("deploy", "member", "remove", victim, "--yes")
    cut_power_after(operator, victim, f"remove {victim} from the cluster", *remove, lane="local", is_last=True)
    operator.tercet(*remove)
    assert is_stopped()
    add = ("deploy", "member", "add", victim, "--yes")
    cut_power_after(operator, victim, "add as learner", *add)
    operator.tercet(*add, timeout=300)
    assert len(operator.healthy_lines(env)) == 3
    cut_power_after(operator, victim, "restart", "deploy", "restart", is_last=True)
    operator.deploy("restart", timeout=300)
    assert "nothing to do" in operator.deploy("plan").output.lower()
    source = next(host for host in HOSTS if host != operator.leader(env))
    cut_power_after(operator, source, "save snapshot", "deploy", "backup", "--to", "cut", lane="local", is_last=True)
    operator.deploy("backup", "--to", "cut")
    assert all(path.name.endswith(".db") for path in (operator.directory / "cut").iterdir())
    for value in "abc":
        operator.etcdctl("put", "versions", value, env=env)
    compact = ("deploy", "compact", "--keep", "1", "--yes")
    cut_power_after(operator, victim, "compact", *compact, lane="local", is_last=True)
    operator.tercet(*compact)
    assert len(operator.healthy_lines(env)) == 3
    cut_the_power_during_a_backup_of_the_host(operator, victim)
    destroy = ("deploy", "destroy", "--yes")
    cut_power_after(operator, victim, "stop and disable etcd.service", *destroy)
    operator.tercet(*destroy)
    assert is_stopped()
    apply = ("deploy", "apply", "--yes")
    cut_power_after(operator, victim, "write /etc/systemd/system/etcd.service", *apply)
    cut_power_after(operator, victim, "start", *apply, is_last=True)
    operator.tercet(*apply, timeout=300)
    assert len(operator.healthy_lines(env)) == 3


def cut_the_power_during_a_backup_of_the_host(operator: Operator, host: str) -> None:
    """The next run of the timer's service removes what the interrupted one left, and saves a snapshot."""
    directory = operator.machine(host).root / "var/backups/etcd"
    before = set(directory.iterdir())  # also encrypted ones
    operator.on(host, "systemctl start --no-block etcd-backup")
    operator.lab.kill(host)
    operator.lab.boot(host)
    wait_until(lambda: len(operator.healthy_lines()) == 3, seconds=120)
    operator.on(host, "systemctl start etcd-backup")
    assert all(path.name.endswith((".db", ".db.age")) for path in directory.iterdir())
    assert set(directory.iterdir()) - before
