"""`tercet pki`: certificates from cfssl's files, with cfssl's flags."""

from __future__ import annotations

import click

from tercet.cli.click_group import SuggestingGroup
from tercet.cli.pki import age_key, check, issue


class _Aliases(SuggestingGroup):
    """Accepts cfssl's name `initca` for `init-ca`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, {"initca": "init-ca"}.get(cmd_name, cmd_name))


@click.group(
    name="pki",
    cls=_Aliases,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
With cfssl:
  cfssl gencert -initca ca-csr.json | cfssljson -bare ca
  cfssl gencert -ca=ca.pem -ca-key=ca-key.pem -config=ca-config.json \\
      -profile=kubernetes etcd-csr.json | cfssljson -bare etcd
With tercet, from the same files:
  tercet pki gencert -initca ca-csr.json
  tercet pki gencert -ca=ca.pem -ca-key=ca-key.pem -config=ca-config.json \\
      -profile=kubernetes etcd-csr.json

Private keys are written with mode 0600 and never printed, except into a pipe to cfssljson, which then writes the files.""",
)
def command() -> None:
    """Issue, show, verify and renew certificates, from cfssl's files."""


for _subcommand in (issue.init_ca_command, issue.gencert, check.show, check.verify, check.renew_command, age_key.age_key):
    command.add_command(_subcommand)
