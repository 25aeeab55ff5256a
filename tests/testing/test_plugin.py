"""The pytest plugin, by runs of pytest on small suites."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import ETCD

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.server_process

# By its module, whether or not the entry point is installed.
PLUGIN = ("-p", "no:tercet", "-p", "tercet.testing.plugin", "-p", "no:cacheprovider", "--strict-markers")


def run(pytester: pytest.Pytester, suite: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(suite)
    return pytester.runpytest_subprocess(*PLUGIN, *options, timeout=100)


CLIENTS = """
    def test_one(tercet_client):
        assert tercet_client.put("a", "1").header.revision == {first}
        tercet_client.put_if_absent("b", "1")

    def test_other(tercet_client):
        assert tercet_client.get("a") is None, "the store is empty again"
        assert tercet_client.put("a", "2")

    def test_both_clients_see_one_server(tercet_client, tercet_server):
        tercet_client.put("a", "1")
        with tercet_server.client() as other:
            assert other.get("a").text() == "1"
        assert tercet_server.endpoint in tercet_server.env["ETCDCTL_ENDPOINTS"]
"""


def test_it_loads_nothing_of_the_server() -> None:
    """pytest imports it in every project: only pytest and the standard library may come with it."""
    code = "import pytest, sys; before = set(sys.modules); import tercet.testing.plugin; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names} == {
        "tercet",
        "tercet.testing",
        "tercet.testing.plugin",
    }


def test_each_test_gets_an_empty_store(pytester: pytest.Pytester) -> None:
    run(pytester, CLIENTS.format(first=2)).assert_outcomes(passed=3)


def test_workers_of_xdist_have_servers_of_their_own(pytester: pytest.Pytester) -> None:
    run(pytester, CLIENTS.format(first=2), "-n", "2").assert_outcomes(passed=3)


def test_the_same_tests_run_in_a_process_and_on_a_real_etcd(pytester: pytest.Pytester) -> None:
    suite = CLIENTS.replace(" == {first}", "")
    run(pytester, suite, "--tercet-mode=process").assert_outcomes(passed=3)
    run(pytester, suite, f"--tercet-bin={ETCD[0]}").assert_outcomes(passed=3)


def test_an_external_server_is_used_inside_a_namespace(pytester: pytest.Pytester) -> None:
    import tercet

    suite = """
        def test_one(tercet_client, tercet_namespace, tercet_noproc):
            tercet_client.put("a", "1")
            with tercet_noproc.client() as other:
                assert other.get(tercet_namespace + b"a").text() == "1"

        def test_other(tercet_client):
            assert tercet_client.get("a") is None

        def test_a_cluster_cannot_be_had(tercet_cluster):
            tercet_cluster(3)
    """
    with tercet.Server.start_in_thread() as server, tercet.Client(server.endpoints) as client:
        client.put("a", "of somebody else")
        run(pytester, suite, f"--tercet-endpoints={server.endpoint}").assert_outcomes(passed=2, skipped=1)
        assert [kv.text() for kv in client.get_prefix("")] == ["of somebody else"]


def test_clusters_are_made_by_arguments_and_marks(pytester: pytest.Pytester) -> None:
    suite = """
        import pytest, tercet

        @pytest.mark.tercet(size=1, config={"max_request_bytes": 1000}, auth=True)
        def test_marked(tercet_cluster):
            cluster = tercet_cluster()
            assert len(cluster.members) == 1
            with tercet.Client(cluster.endpoints) as client, pytest.raises(tercet.TercetError, match="user name is empty"):
                client.put("a", "1")
            with tercet.Client(cluster.endpoints, user="root", password="root") as client:
                with pytest.raises(tercet.TooLarge):
                    client.put("a", "1" * 2000)

        @pytest.mark.parametrize("number", range(2))
        def test_reused(tercet_cluster, number):
            cluster = tercet_cluster(3, reuse=True)
            with tercet.Client(cluster.endpoints) as client:
                assert client.put("a", "1").header.revision == 2
            with cluster.lose_quorum():
                pass

        @pytest.mark.tercet(sise=3)
        def test_misspelt(tercet_cluster):
            tercet_cluster()
    """
    result = run(pytester, suite)
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*the mark tercet has no argument sise*"])


CLUSTERS = """
    import pytest, tercet

    @pytest.mark.tercet(size=3, tls=True, config={"heartbeat_interval": 100, "election_timeout": 1000})
    def test_of_a_cluster(tercet_cluster):
        cluster = tercet_cluster()
        assert {endpoint.partition(":")[0] for endpoint in cluster.endpoints} == {"https"}
        with cluster.client(timeout=60, retry=tercet.Retry.ALWAYS) as client:
            client.put("a", "1")
            with cluster.leader().kill():
                client.put("a", "2")
            with cluster.followers()[0].pause():
                client.put("a", "3")
            target = cluster.followers()[1]
            assert cluster.move_leader(target) is target is cluster.leader()
            cluster.rotate_certs()
            with cluster.client(timeout=60) as other:
                assert other.get("a").text() == "3"
            assert cluster.compact_all() > 3
            with cluster.no_space(), pytest.raises(tercet.NoSpace):
                client.put("a", "4")
            with cluster.lose_quorum("pause"), pytest.raises(tercet.TercetError):
                client.put("a", "5", timeout=1)
            cluster.heal()
            client.put("a", "6")

    @pytest.mark.parametrize("number", range(2))
    def test_reused_with_users(tercet_cluster, number):
        cluster = tercet_cluster(1, auth=True, reuse=True)
        with cluster.client(user="root", password="root") as client:
            assert client.get("a") is None
            client.put("a", "1")
"""


@pytest.mark.parametrize("options", [(), ("--tercet-mode=process",), (f"--tercet-bin={ETCD[0]}",)], ids=str)
def test_clusters_are_alike_in_each_mode(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    run(pytester, CLUSTERS, *options).assert_outcomes(passed=3)


@needs_newer_etcd
def test_clients_and_clusters_are_alike_on_a_newer_etcd(pytester: pytest.Pytester) -> None:
    run(pytester, CLIENTS.replace(" == {first}", ""), f"--tercet-bin={newer_etcd()[0]}").assert_outcomes(passed=3)
    run(pytester, CLUSTERS, f"--tercet-bin={newer_etcd()[0]}").assert_outcomes(passed=3)


def test_faults_that_a_process_cannot_have_skip_the_test(pytester: pytest.Pytester) -> None:
    suite = """
        import tercet

        def test_kill(tercet_cluster):
            cluster = tercet_cluster(1)
            with tercet.Client(cluster.endpoints) as client:
                client.put("a", "1")
                with cluster.leader().kill():
                    assert not cluster.running
                assert client.get("a").text() == "1"

        def test_partition(tercet_cluster):
            cluster = tercet_cluster(1)
            cluster.partition(cluster[0], [])

        def test_slow_disk(tercet_cluster):
            cluster = tercet_cluster(1)
            with cluster.leader().slow_fsync(1):
                pass
    """
    run(pytester, suite, "--tercet-mode=process").assert_outcomes(passed=1, skipped=2)


def test_a_failure_shows_members_and_logs(pytester: pytest.Pytester) -> None:
    suite = """
        def test_fails(tercet_client, tercet_server):
            tercet_server.cluster.members[0].pause().undo()
            tercet_client.put("a", "1")
            assert not "this test fails"
    """
    result = run(pytester, suite, "--tercet-log-level=info")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*tercet members*", "m0  http://127.0.0.1:*running, leader, term *", "*tercet log of m0*"])
    result.stdout.fnmatch_lines(["*ready to serve client requests*"])


def test_options_can_stand_in_the_configuration_file(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntercet_storage = nowhere\n")
    result = run(pytester, "def test_one(tercet_client): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*tercet_storage memory or disk*"])
    run(pytester, "def test_one(tercet_client): pass", "--tercet-storage=disk").assert_outcomes(passed=1)


def test_fixtures_of_own_names(pytester: pytest.Pytester) -> None:
    suite = """
        from tercet.testing import factories

        etcd = factories.server(size=1, max_request_bytes=1000)
        client = factories.client("etcd", timeout=10)

        def test_one(client, etcd):
            assert client.put("a", "1").header.revision == 2

        def test_other(client):
            assert client.put("a", "1").header.revision == 2
    """
    run(pytester, suite).assert_outcomes(passed=2)


def test_unittest_classes_have_a_server(pytester: pytest.Pytester) -> None:
    suite = """
        import unittest
        from tercet.testing import TercetTestCase

        class TestStore(TercetTestCase, unittest.TestCase):
            def test_one(self):
                self.assertEqual(self.client.put("a", "1").header.revision, 2)

            def test_other(self):
                self.assertEqual(self.client.put("a", "1").header.revision, 2)
    """
    run(pytester, suite).assert_outcomes(passed=2)


def test_the_asynchronous_client_without_a_plugin_for_asyncio(pytester: pytest.Pytester) -> None:
    suite = """
        import asyncio

        def test_one(tercet_async_client):
            async def main():
                async with tercet_async_client as client:
                    return await client.put("a", "1")
            assert asyncio.run(main()).header.revision == 2
    """
    run(pytester, suite + "\n" + suite.replace("test_one", "test_other"), "-p", "no:asyncio", "-p", "no:anyio").assert_outcomes(
        passed=2
    )


@pytest.mark.skipif(importlib.util.find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed")
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_asynchronous_client_with_pytest_asyncio(pytester: pytest.Pytester, mode: str) -> None:
    suite = """
        import pytest

        @pytest.mark.asyncio
        async def test_one(tercet_async_client):
            assert (await tercet_async_client.put("a", "1")).header.revision == 2
    """
    run(pytester, suite + "\n" + suite.replace("test_one", "test_other"), f"--asyncio-mode={mode}").assert_outcomes(passed=2)


@pytest.mark.skipif(importlib.util.find_spec("anyio") is None, reason="anyio is not installed")
def test_the_asynchronous_client_with_anyio(pytester: pytest.Pytester) -> None:
    suite = """
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_one(tercet_async_client):
            assert (await tercet_async_client.put("a", "1")).header.revision == 2
    """
    run(pytester, suite, "-p", "no:asyncio").assert_outcomes(passed=1)
