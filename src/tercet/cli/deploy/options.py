"""Options shared by all commands of `tercet deploy`, and how commands run.

    tercet deploy -f other.yaml --accept-new plan     before the command
    tercet deploy plan --file other.yaml              or after it, which takes precedence

A command is one coroutine. Errors go to stderr, one message each. Exit codes: 1 for errors, 2 for usage errors, 130 for Ctrl-C,
SIGTERM or SIGHUP in a command that changes nothing.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

import click

from tercet.cli.deploy.prompts import password_source
from tercet.errors import TercetError

if TYPE_CHECKING:
    from tercet.cli.deploy.progress import Progress
    from tercet.deploy.cluster.cluster import Cluster
    from tercet.deploy.deployment import Deployment
    from tercet.deploy.run.events import OnEvent
    from tercet.deploy.ssh.sudo import AskPassword

DEFAULT_FILE = Path("cluster.yaml")
P = ParamSpec("P")
T = TypeVar("T")


class MakeDeployment(Protocol):
    def __call__(
        self,
        cluster: Cluster,
        *,
        accept_new: bool,
        ask_password: AskPassword | None,
        on_event: OnEvent | None,
        limit: Collection[str],
    ) -> Deployment: ...


def _real_deployment(
    cluster: Cluster,
    *,
    accept_new: bool,
    ask_password: AskPassword | None,
    on_event: OnEvent | None,
    limit: Collection[str],
) -> Deployment:
    from tercet.deploy.deployment import Deployment

    return Deployment(cluster, accept_new=accept_new, ask_password=ask_password, on_event=on_event, limit=limit)


@dataclass
class Options:
    """Values of the shared options. make: constructor of the Deployment, or of a fake in tests."""

    file: Path = DEFAULT_FILE
    accept_new: bool = False
    password_file: str | None = None
    limit: tuple[str, ...] = ()
    make: MakeDeployment = field(default=_real_deployment)

    def cluster(self, *, warn: bool = True) -> Cluster:
        """Load the cluster file. Raises ClickException with every error in it."""
        from tercet.deploy.cluster.cluster_file import load

        if not self.file.exists():
            given = f"--from environment.sh -f {self.file}" if self.file != DEFAULT_FILE else "--from environment.sh"
            raise click.ClickException(
                f"{self.file} does not exist; create it with `tercet deploy init` (`tercet deploy init {given}` imports a "
                "manual deployment), or name another file with -f"
            )
        cluster = with_click_errors(lambda: load(self.file))
        if warn:
            for warning in cluster.warnings:
                click.secho(f"Warning: {warning}", fg="yellow", err=True)
        return cluster

    def deployment(self, cluster: Cluster, progress: Progress | None = None) -> Deployment:
        pause = progress.paused if progress is not None else nullcontext
        ask = password_source(self.password_file, pause)
        on_event = progress.on_event if progress is not None else None
        return self.make(cluster, accept_new=self.accept_new, ask_password=ask, on_event=on_event, limit=self.limit)


def shared_options(*, short_file: bool = True) -> Callable[[Callable[Concatenate[Options, P], T]], Callable[P, T]]:
    """Add the shared options to a command, which receives them as an Options. short_file: whether `-f` is among them."""

    def decorate(command: Callable[Concatenate[Options, P], T]) -> Callable[P, T]:
        @wraps(command)
        def with_options(*arguments: P.args, **given_options: P.kwargs) -> T:
            options = click.get_current_context().ensure_object(Options)
            given: dict[str, Any] = given_options
            options.file = given.pop("file") or options.file
            options.accept_new = given.pop("accept_new") or options.accept_new
            options.password_file = given.pop("sudo_password_file") or options.password_file
            return command(options, *arguments, **given_options)

        file_flags = ("-f", "--file") if short_file else ("--file",)
        decorators = (
            click.option(
                *file_flags, type=click.Path(path_type=Path), metavar="FILE", help="The cluster file.  [default: cluster.yaml]"
            ),
            click.option("--accept-new", is_flag=True, help="Accept unknown SSH host keys and add them to known_hosts."),
            click.option(
                "--sudo-password-file",
                metavar="FILE",
                help="File with the sudo password; - reads stdin. Otherwise $TERCET_SUDO_PASSWORD is used, or the terminal "
                "prompts for it.",
            ),
        )
        decorated: Callable[..., T] = with_options
        for decorator in reversed(decorators):
            decorated = decorator(decorated)
        return decorated

    return decorate


def run_with_progress(
    options: Options, cluster: Cluster, work: Callable[[Deployment], Awaitable[T]], *, progress: Progress | None = None
) -> T:
    """Run a command that changes hosts, with progress output. Ctrl-C is one error line and exit code 1."""
    from tercet.cli.deploy.progress import make_progress

    progress = progress or make_progress(_names(cluster))
    try:
        return run(_with_progress(options, cluster, work, progress))
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; rerun the command to continue, completed steps are skipped") from None


def run_with_table(options: Options, cluster: Cluster, work: Callable[[Deployment], Awaitable[T]], *, draws: bool = True) -> T:
    """Run a read-only command. draws: on a terminal, show long operations such as building the bundle."""
    from tercet.cli.deploy.progress import make_table

    return run(_with_progress(options, cluster, work, make_table(_names(cluster)) if draws else None))


async def _with_progress(
    options: Options, cluster: Cluster, work: Callable[[Deployment], Awaitable[T]], progress: Progress | None
) -> T:
    try:
        return await work(options.deployment(cluster, progress))
    finally:
        if progress is not None:
            progress.close()


def _names(cluster: Cluster) -> tuple[str, ...]:
    return tuple(host.name for host in cluster.hosts)


def run(work: Awaitable[T]) -> T:
    """Run a coroutine. Raises ClickException for expected errors, KeyboardInterrupt also for SIGTERM and SIGHUP."""

    async def main() -> T:
        with _cancelled_by_signals():
            return await work

    try:
        return with_click_errors(lambda: asyncio.run(main()))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """End as by Ctrl-C, so that neither decrypted snapshots nor scratch members are left. `nohup` goes on ignoring SIGHUP."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    numbers: list[signal.Signals] = []
    if task is not None and threading.current_thread() is threading.main_thread():
        numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
        for number in numbers:
            loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def with_click_errors(work: Callable[[], T]) -> T:
    """Call `work`; its TercetError or OSError becomes a ClickException."""
    try:
        return work()
    except BrokenPipeError:
        raise  # the reader has closed the pipe, as `| head` does; click exits quietly
    except (TercetError, OSError) as error:
        raise _Failure(_lines(error)) from error


class _Failure(click.ClickException):
    """One or more error messages, each printed with its own prefix."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__("\n".join(messages))
        self._messages = messages

    def show(self, file: Any = None) -> None:
        for message in self._messages:
            click.echo(f"{click.style('Error:', fg='red', bold=True)} {message}", err=True, color=self.show_color)


def _lines(error: BaseException) -> list[str]:
    """One message per error; a message may span lines, for example with the end of a journal."""
    several: tuple[BaseException, ...] = getattr(error, "errors", ()) or ()
    if several:
        return [line for one in several for line in _lines(one)]
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return [f"{error.filename}: {error.strerror}"]
    return [str(error) or type(error).__name__]
