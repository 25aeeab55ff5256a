"""defrag: rewrite the database of a member that does not run, without its unused space."""

from __future__ import annotations

from pathlib import Path

from tercet.bolt import view_source
from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import Flag
from tercet.cli.utl.bolt_output import write_bolt
from tercet.cli.utl.context import Context, required
from tercet.cli.utl.stores import database_of, open_backend, open_store
from tercet.errors import StorageFailure
from tercet.gotext.strconv import humanize_bytes


def _defrag(context: Context, _: list[str]) -> None:
    required(context.values, "data-dir")
    directory = context.values.string("data-dir")
    try:
        path = database_of(Path(directory))
        context.info("defragmenting", {"path": str(path)})
        before, after = _rewrite(path, context.lock_seconds)
    except StorageFailure as failure:
        raise CommandError(Exit.ERROR, f"Failed to defragment etcd data[{directory}] ({failure})") from failure
    shown = {
        "path": str(path),
        "current-db-size-bytes-diff": after - before,
        "current-db-size-bytes": after,
        "current-db-size": humanize_bytes(after),
    }
    context.info("finished defragmenting directory", shown)


def _rewrite(path: Path, lock_seconds: float | None) -> tuple[int, int]:
    """Bytes before and after."""
    if path.is_dir():
        backend = open_backend(path, lock_seconds)
        try:
            before = backend.size()
            backend.defragment(_nothing)
            backend.commit_now()
            return before, backend.size()
        finally:
            backend.close()
    before = path.stat().st_size
    with open_store(path, lock_seconds) as store:
        return before, write_bolt(view_source(store.view), path, "defragmenting")


def _nothing() -> None:
    """The defragmentation of a backend without a loop is done when it returns."""


DEFRAG = Command(
    "defrag",
    "Rewrite a database to release unused space",
    flags=(Flag("data-dir", "string", "", "data directory of a member that does not run; required"),),
    run=_defrag,
    examples=("tercetutl defrag --data-dir n1.etcd",),
)
