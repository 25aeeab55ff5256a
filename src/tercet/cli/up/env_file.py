"""DIR/env.sh: the environment in which tercetctl and etcdctl talk to the cluster, for `source` in any POSIX shell."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from tercet.bench.local_cluster import Plan
from tercet.pki.files import write

ENV_FILE = "env.sh"


def write_env_file(path: Path, plan: Plan, programs: Path | None = None) -> None:
    """Write the variables of etcdctl, with absolute paths, and put tercetctl on the PATH where it is not.

    programs: the directory of tercetctl; by default that of this interpreter's scripts. Raises OSError.
    """
    directory = programs or Path(sys.executable).parent
    tls = plan.tls
    variables = {
        "ETCDCTL_ENDPOINTS": ",".join(plan.client_urls),
        "ETCDCTL_CACERT": tls and tls.cacert,
        "ETCDCTL_CERT": tls and tls.cert,
        "ETCDCTL_KEY": tls and tls.key,
    }
    lines = [f"# Written by `tercet up`. Usage: source {shlex.quote(str(path))}"]
    lines += [f"export {name}={shlex.quote(value)}" if value else f"unset {name}" for name, value in variables.items()]
    if (directory / "tercetctl").exists():
        lines.append(f'command -v tercetctl >/dev/null || export PATH="$PATH":{shlex.quote(str(directory))}')
    write(path, ("\n".join(lines) + "\n").encode(), mode=0o644)
