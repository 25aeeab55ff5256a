"""`tercet pki`: certificates from cfssl's files, in cfssl's words, and what cfssl does not tell about them."""

from __future__ import annotations

import click

from tercet.cli.pki import check, issue


class _Aliases(click.Group):
    """`initca` is what cfssl calls it."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, {"initca": "init-ca"}.get(cmd_name, cmd_name))


@click.group(
    name="pki",
    cls=_Aliases,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
By hand, with cfssl:
  cfssl gencert -initca ca-csr.json | cfssljson -bare ca
  cfssl gencert -ca=ca.pem -ca-key=ca-key.pem -config=ca-config.json \\
      -profile=kubernetes etcd-csr.json | cfssljson -bare etcd
Here, with the same files:
  tercet pki gencert -initca ca-csr.json
  tercet pki gencert -ca=ca.pem -ca-key=ca-key.pem -config=ca-config.json \\
      -profile=kubernetes etcd-csr.json

Private keys are written with mode 0600 and are never printed, so there is nothing to pipe into cfssljson.""",
)
def command() -> None:
    """Make, show, check and renew certificates, from cfssl's files."""


for _subcommand in (issue.init_ca_command, issue.gencert, check.show, check.verify, check.renew_command):
    command.add_command(_subcommand)
