"""The extra `tercet[deploy]`: without asyncssh and pydantic everything works but `tercet deploy`, which names the extra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import Cluster
from tests.support.waiting import scaled

# A module that is None in sys.modules cannot be imported: as in an environment without the package.
WITHOUT_EXTRA = """\
import sys
sys.modules.update(dict.fromkeys({blocked!r}))
from tercet.cli.{program} import main
sys.exit(main())
"""
EXTRA = ("asyncssh", "pydantic", "pydantic_core")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return script(tmp_path, "tercet")


def script(directory: Path, program: str, blocked: tuple[str, ...] = EXTRA) -> Path:
    path = directory / program
    path.write_text(f"#!{sys.executable}\n{WITHOUT_EXTRA.format(blocked=blocked, program=program)}")
    path.chmod(0o755)
    return path


def run(*command: str | Path, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=scaled(60), check=False, cwd=directory)


def test_a_member_and_tercetctl_run_without_the_extra(program: Path, tmp_path: Path) -> None:
    cluster = Cluster.plan(tmp_path, ("n1",), programs={"n1": (str(program),)})
    try:
        cluster.start()
        done = run(script(tmp_path, "tercetctl"), f"--endpoints={cluster['n1'].endpoint}", "put", "k", "v", directory=tmp_path)
        assert (done.stdout, done.stderr) == ("OK\n", "")
    finally:
        cluster.dispose()


def test_pki_runs_without_the_extra(program: Path, tmp_path: Path) -> None:
    (tmp_path / "csr.json").write_text('{"CN": "ca"}')
    done = run(program, "pki", "gencert", "--initca", "--bare", "ca", "csr.json", directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ca.pem").exists()


def test_help_of_deploy_needs_no_extra(program: Path, tmp_path: Path) -> None:
    for line in (["--help"], ["apply", "--help"]):
        done = run(program, "deploy", *line, directory=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("line", [["init", "--force", "n1=10.0.0.1"], ["plan"], ["apply", "-y"], ["status"], ["env"]])
@pytest.mark.parametrize("blocked", EXTRA[:2])
def test_deploy_names_the_missing_extra(tmp_path: Path, line: list[str], blocked: str) -> None:
    (tmp_path / "cluster.yaml").write_text("name: c\nhosts:\n  - {name: n1, address: 10.0.0.1}\n")
    done = run(script(tmp_path, "tercet", (blocked,)), "deploy", *line, directory=tmp_path)
    if done.returncode == 0:
        assert (blocked, line[0]) in (("asyncssh", "init"), ("asyncssh", "env"))  # these connect to no host
        return
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"Error: `tercet deploy` needs {blocked}, which is not installed; install it with: pip install 'tercet[deploy]'"
    )
    assert "Traceback" not in done.stderr
