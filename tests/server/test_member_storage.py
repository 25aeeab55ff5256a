from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tercet.errors import ConfigError
from tercet.server.auth_tokens import make_tokens
from tercet.server.data_directory import has_log
from tercet.server.member_storage import DiskStorage, Paths
from tests.config.configured import config


def test_a_data_directory_that_cannot_be_looked_into_is_a_configuration_error(tmp_path: Path) -> None:
    """A name that is too long stands for a directory of another user: root, as whom tests may run, can read every directory."""
    directory = tmp_path / ("x" * 300)
    with pytest.raises(ConfigError, match=r"^cannot create directory .*: file name too long$"):
        Paths.of(config("--name=x", f"--data-dir={directory}")).create()


def test_a_missing_key_of_tokens_is_named_in_the_words_of_etcd(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    missing = tmp_path / "missing"
    with caplog.at_level(logging.ERROR), pytest.raises(ConfigError, match=r"^auth: invalid auth options$"):
        make_tokens(config("--name=x", f"--auth-token=jwt,pub-key={missing},sign-method=RS256"), clock=lambda: 0.0)
    assert [record.__dict__["fields"] for record in caplog.records] == [{"error": f"open {missing}: no such file or directory"}]


@pytest.mark.parametrize(
    ("written_by", "error"),
    [
        ("etcd", r"^(\S+) is a data directory of etcd .* tercetutl convert --data-dir \1 --output-dir NEW"),
        ("tercet", r"has no write-ahead log in \S+/member/wal: is --wal-dir right\?$"),
    ],
)
def test_a_database_without_a_log_is_refused_with_what_to_do_next(tmp_path: Path, written_by: str, error: str) -> None:
    settings = config("--name=x", f"--data-dir={tmp_path}")
    storage = DiskStorage(settings)
    storage.paths.create()
    if written_by == "etcd":
        storage.paths.database.write_bytes(bytes(4096))
    else:
        storage.paths.database.mkdir()
    with pytest.raises(ConfigError, match=error):
        has_log(storage)
