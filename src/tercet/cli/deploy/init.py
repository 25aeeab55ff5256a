"""`tercet deploy init`: write a cluster.yaml from host names, from the files of a manual deployment, or as an example.

The file is written atomically. An existing file is replaced only with --force.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tercet.cli.deploy.options import Options, shared_options, with_click_errors
from tercet.errors import ConfigError
from tercet.pki.files import write

if TYPE_CHECKING:
    from tercet.deploy.cluster.settings import EngineKind
    from tercet.deploy.draft.draft import Imported


@click.command(
    epilog="""\b
Examples:
  tercet deploy init kube-node1=172.27.129.105 kube-node2=172.27.129.111 kube-node3=172.27.129.112
  tercet deploy init --from environment.sh
  tercet deploy init --from environment.sh --from etcd.service.template --engine etcd
  tercet deploy init --from etcd.env --from etcd.service      of kubespray
  tercet deploy init --from etcd.yaml                         static pod of kubeadm""",
)
@click.argument("hosts", nargs=-1, metavar="[NAME=ADDRESS]...")
@click.option(
    "--from",
    "sources",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Import an environment.sh, an etcd unit file, or one of each; an etcd.env; or the manifest of a static pod. The files "
    "are parsed, not executed.",
)
@click.option("--engine", type=click.Choice(["tercet", "etcd"]), help="Program that the members run.  [default: tercet]")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@shared_options()
def init(options: Options, hosts: tuple[str, ...], sources: tuple[Path, ...], engine: EngineKind | None, force: bool) -> None:
    """Write a commented cluster.yaml."""
    from tercet.deploy.cluster.cluster_file import parse
    from tercet.deploy.draft.importing import from_files

    if hosts and sources:
        raise click.UsageError("NAME=ADDRESS and --from cannot be combined")
    imported = with_click_errors(lambda: from_files(sources, engine=engine)) if sources else _from_names(hosts, engine)
    with_click_errors(lambda: _write(options.file, imported.text, force=force))
    count = len(parse(imported.text, options.file).hosts)
    examples = "" if hosts or sources else " with example addresses"
    click.echo(f"Wrote {options.file}: {count} {'member' if count == 1 else 'members'}{examples}.")
    for note in imported.notes:
        click.echo(f"Note: {note}")
    program = "tercet deploy" if options.file.name == "cluster.yaml" else f"tercet deploy -f {options.file}"
    click.echo(f"Review it, then run: {program} preflight, {program} plan, {program} apply")


def _from_names(hosts: Sequence[str], engine: EngineKind | None) -> Imported:
    from tercet.deploy.cluster.cluster_file import parse
    from tercet.deploy.cluster.problems import ClusterFileError
    from tercet.deploy.draft.draft import CLUSTER_NAME, Imported
    from tercet.deploy.draft.template import EXAMPLE_HOSTS, commented_template

    pairs = [_pair(text) for text in hosts]
    text = commented_template(pairs or EXAMPLE_HOSTS, name=CLUSTER_NAME, engine=engine or "tercet")
    try:
        parse(text, Path("cluster.yaml"))
    except ClusterFileError as error:
        reasons = "; ".join(problem.text for problem in error.problems)
        raise click.BadParameter(reasons, param_hint="NAME=ADDRESS") from error
    return Imported(text, ())


def _pair(text: str) -> tuple[str, str]:
    name, equals, address = text.partition("=")
    if not (name and equals and address):
        raise click.BadParameter(f"{text!r} is not NAME=ADDRESS, for example node1=10.0.0.1", param_hint="NAME=ADDRESS")
    return name, address


def _write(path: Path, text: str, *, force: bool) -> None:
    if path.exists() and not force:
        raise ConfigError(f"{path} already exists; pass --force to replace it")
    write(path, text.encode(), mode=0o666)
