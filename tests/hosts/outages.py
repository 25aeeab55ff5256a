"""Outages that operators come to: expired certificates, a dead host, a full database; the same for both engines.

Every function is one story on three running members, and leaves three healthy ones.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tercet.deploy.cluster.cluster_file import load
from tercet.deploy.cluster.member_flags import certificate_files
from tercet.deploy.plan.certificates import inspect
from tercet.pki import days_left, issue, load_ca
from tests.hosts.days_after import invocations
from tests.hosts.network import HOSTS
from tests.hosts.observations import wait_until
from tests.hosts.session import JUDGES, Operator


def renew_certificates_that_have_expired(operator: Operator) -> None:
    """No member accepts another's certificate, so none gets ready alone: apply renews all, and restarts them together."""
    env = operator.client_environment()
    operator.etcdctl("put", "kept", "through the outage", env=env)
    _expire_certificates(operator)
    for host in HOSTS:
        operator.on(host, "systemctl restart --no-block etcd")
    wait_until(lambda: not operator.healthy_lines(env), seconds=60)
    applied = operator.deploy("apply", "--yes", timeout=300)
    assert "no majority to protect, restarted together" in applied or "  start  done" in applied
    assert len(operator.healthy_lines()) == 3
    assert operator.etcdctl("get", "kept", "--print-value-only").output.strip() == "through the outage"
    assert "nothing to do" in operator.deploy("plan").output.lower()


def _expire_certificates(operator: Operator) -> None:
    """Replace the certificates here and on the hosts by ones that have expired."""
    cluster = load(operator.directory / "cluster.yaml")
    found, places = inspect(cluster), certificate_files(cluster)
    for host in HOSTS:
        for role, pair in (("server", found.servers[host]), ("peer", found.peers[host])):
            assert pair.signer is not None
            signer = load_ca(pair.signer.certificate, pair.signer.key)
            made = issue(signer, pair.request, usages=pair.usages, expiry=timedelta(seconds=1))
            pair.certificate.write_bytes(made.certificate)
            pair.key.write_bytes(made.key)
            for place, content in ((places[role], made.certificate), (places[f"{role}-key"], made.key)):
                Path(operator.machine(host).root, place.lstrip("/")).write_bytes(content)  # in place: owner and mode stay
    wait_until(lambda: days_left(made.certificate) < 0, seconds=60)


def change_the_others_while_a_host_is_dead(operator: Operator) -> None:
    dead, *others = HOSTS
    limit = [word for host in others for word in ("--limit", host)]
    before = invocations(operator)
    operator.set("backups", {"keep": 9})
    operator.lab.kill(dead)
    shown = operator.deploy("plan", exit_code=1)
    assert f"to continue without it: {' '.join(limit)}" in shown
    assert "--keep=9" in shown, "the steps of the others"
    assert f"{dead}: connect" in operator.deploy("apply", "--yes", exit_code=1)
    assert "not reached" in operator.deploy("logs")
    operator.deploy("apply", *limit, "--yes")
    assert "nothing to do" in operator.deploy("plan", *limit).output.lower()
    assert "not restarted" in operator.deploy("restart", others[0], exit_code=1), "the majority would be lost"
    operator.lab.boot(dead)
    wait_until(lambda: len(operator.healthy_lines()) == 3, seconds=120)
    operator.deploy("apply", "--yes")
    assert "nothing to do" in operator.deploy("plan").output.lower()
    assert {host: run for host, run in invocations(operator).items() if host != dead} == {host: before[host] for host in others}


def make_room_in_a_full_database(operator: Operator) -> None:
    """Writes stop at the quota; compact and defrag make room, and disarm the alarm."""
    before = operator.statuses()[next(iter(HOSTS))]["dbSize"] >> 20
    operator.edit(lambda settings: settings.update(quota_backend_bytes=f"{before + 16}MiB"))
    operator.deploy("apply", "--yes")
    env = operator.client_environment()
    put = (str(JUDGES / "etcdctl"), "put", "fills")
    results = (operator.run(*put, exit_code=None, stdin="x" * (1 << 20), env=env) for _ in range(24))
    refused = next(result for result in results if result.exit_code)
    assert "database space exceeded" in refused
    assert "NOSPACE" in operator.deploy("status")
    assert "disarm NOSPACE" in operator.deploy("compact", "--keep", "1", "--yes")
    operator.deploy("defrag", "--yes")
    assert len(operator.healthy_lines(env)) == 3
    operator.etcdctl("put", "fits", "again", env=env)
    operator.edit(lambda settings: settings.update(quota_backend_bytes="8GiB"))
    operator.deploy("apply", "--yes")
