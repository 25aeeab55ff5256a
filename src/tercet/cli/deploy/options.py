"""The options that all commands of `tercet deploy` share, and how a command is carried out with them.

    tercet deploy -f other.yaml --accept-new plan     before the command
    tercet deploy plan --file other.yaml              or after it; what stands after it wins

A command is one coroutine. Whatever stops it is told on stderr, a line for each thing that went wrong, and is an exit code:
1 for what went wrong on the way, 2 for words that make no sense, 130 for Ctrl-C where nothing was being changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

import click

from tercet.cli.deploy.progress import Progress, make_progress, make_table
from tercet.cli.deploy.prompts import password_source
from tercet.errors import TercetError

if TYPE_CHECKING:
    from tercet.deploy.cluster.cluster import Cluster
    from tercet.deploy.deployment import Deployment
    from tercet.deploy.run.events import OnEvent
    from tercet.deploy.ssh.sudo import AskPassword

DEFAULT_FILE = Path("cluster.yaml")
P = ParamSpec("P")
T = TypeVar("T")


class MakeDeployment(Protocol):
    def __call__(
        self, cluster: Cluster, *, accept_new: bool, ask_password: AskPassword | None, on_event: OnEvent | None
    ) -> Deployment: ...


def _real_deployment(
    cluster: Cluster, *, accept_new: bool, ask_password: AskPassword | None, on_event: OnEvent | None
) -> Deployment:
    from tercet.deploy.deployment import Deployment

    return Deployment(cluster, accept_new=accept_new, ask_password=ask_password, on_event=on_event)


@dataclass
class Setting:
    """What the shared options say. make: the class that does the work, or a stand-in."""

    file: Path = DEFAULT_FILE
    accept_new: bool = False
    password_file: str | None = None
    make: MakeDeployment = field(default=_real_deployment)

    def cluster(self, *, warn: bool = True) -> Cluster:
        """Raises ClickException with all that is wrong with the file."""
        from tercet.deploy.cluster.cluster_file import load

        if not self.file.exists():
            given = f"--from environment.sh -f {self.file}" if self.file != DEFAULT_FILE else "--from environment.sh"
            raise click.ClickException(
                f"there is no {self.file}; `tercet deploy init` writes one (`tercet deploy init {given}` from what you have), "
                "-f names another"
            )
        cluster = reported(lambda: load(self.file))
        if warn:
            for warning in cluster.warnings:
                click.secho(f"Warning: {warning}", fg="yellow", err=True)
        return cluster

    def deployment(self, cluster: Cluster, progress: Progress | None = None) -> Deployment:
        pause = progress.paused if progress is not None else nullcontext
        ask = password_source(self.password_file, pause)
        on_event = progress.hear if progress is not None else None
        return self.make(cluster, accept_new=self.accept_new, ask_password=ask, on_event=on_event)


def shared_options(*, short_file: bool = True) -> Callable[[Callable[Concatenate[Setting, P], T]], Callable[P, T]]:
    """Adds the shared options to a command, which gets a Setting instead. short_file: whether `-f` is one of them."""

    def decorate(command: Callable[Concatenate[Setting, P], T]) -> Callable[P, T]:
        @wraps(command)
        def with_setting(*arguments: P.args, **options: P.kwargs) -> T:
            setting = click.get_current_context().ensure_object(Setting)
            given: dict[str, Any] = options
            setting.file = given.pop("file") or setting.file
            setting.accept_new = given.pop("accept_new") or setting.accept_new
            setting.password_file = given.pop("sudo_password_file") or setting.password_file
            return command(setting, *arguments, **options)

        file_words = ("-f", "--file") if short_file else ("--file",)
        decorators = (
            click.option(
                *file_words, type=click.Path(path_type=Path), metavar="FILE", help="The cluster file.  [default: cluster.yaml]"
            ),
            click.option("--accept-new", is_flag=True, help="Accept and remember SSH host keys that are not known yet."),
            click.option(
                "--sudo-password-file",
                metavar="FILE",
                help="Read sudo's password from there; - is stdin. $TERCET_SUDO_PASSWORD is another way; on a terminal it is "
                "asked for.",
            ),
        )
        decorated: Callable[..., T] = with_setting
        for decorator in reversed(decorators):
            decorated = decorator(decorated)
        return decorated

    return decorate


def watched(setting: Setting, cluster: Cluster, work: Callable[[Deployment], Awaitable[T]]) -> T:
    """Carry out what changes hosts, and show it. Ctrl-C ends it with one line, exit code 1."""
    progress = make_progress(_names(cluster))
    try:
        return run(_shown(setting, cluster, work, progress))
    except KeyboardInterrupt:
        raise click.ClickException(
            "interrupted; what is done stays done: run the same again, and it finishes the job"
        ) from None


def looked(setting: Setting, cluster: Cluster, work: Callable[[Deployment], Awaitable[T]], *, draws: bool = True) -> T:
    """Carry out what only reads. On a terminal, if it draws, one sees what takes long, such as making the engine one file."""
    return run(_shown(setting, cluster, work, make_table(_names(cluster)) if draws else None))


async def _shown(
    setting: Setting, cluster: Cluster, work: Callable[[Deployment], Awaitable[T]], progress: Progress | None
) -> T:
    try:
        return await work(setting.deployment(cluster, progress))
    finally:
        if progress is not None:
            progress.close()


def _names(cluster: Cluster) -> tuple[str, ...]:
    return tuple(host.name for host in cluster.hosts)


def run(work: Awaitable[T]) -> T:
    """Its result; what it raises on purpose becomes what click shows. Raises ClickException, KeyboardInterrupt."""

    async def main() -> T:
        return await work

    return reported(lambda: asyncio.run(main()))


def reported(work: Callable[[], T]) -> T:
    try:
        return work()
    except BrokenPipeError:
        raise  # whoever read our output has seen enough, as `| head` does; click ends us quietly
    except (TercetError, OSError) as error:
        raise _Failure(_lines(error)) from error


class _Failure(click.ClickException):
    """Several things may have gone wrong, on several hosts."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__("\n".join(messages))
        self._messages = messages

    def show(self, file: Any = None) -> None:
        for message in self._messages:
            click.echo(f"{click.style('Error:', fg='red', bold=True)} {message}", err=True, color=self.show_color)


def _lines(error: BaseException) -> list[str]:
    """One message for each thing that went wrong; a message may have more lines, such as those of a journal."""
    several: tuple[BaseException, ...] = getattr(error, "errors", ()) or ()
    if several:
        return [line for one in several for line in _lines(one)]
    return [str(error) or type(error).__name__]
