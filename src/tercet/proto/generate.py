"""Generates the `_pb2` modules from the .proto files in this directory: `python -m tercet.proto.generate`.

The generated modules use a descriptor pool of their own. With protobuf's default pool a program could not import both tercet
and another etcd client: both define messages such as `etcdserverpb.RangeRequest`, and a pool accepts each name only once.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOURCE_ROOT = HERE.parents[1]
DEFAULT_POOL = "_descriptor_pool.Default()"
OUR_POOL = "_tercet_pool.POOL"


def main() -> None:
    schemas = sorted(str(path.relative_to(SOURCE_ROOT)) for path in HERE.glob("*.proto"))
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--mypy_out=quiet:.", *schemas],
        cwd=SOURCE_ROOT,
        check=True,
    )
    for module in sorted(HERE.glob("*_pb2.py")):
        text = module.read_text()
        if DEFAULT_POOL not in text:
            raise SystemExit(f"{module}: the generator no longer names its pool as {DEFAULT_POOL}")
        text = text.replace(DEFAULT_POOL, OUR_POOL)
        first_import = text.index("from google.protobuf import")
        module.write_text(text[:first_import] + "from tercet.proto import pool as _tercet_pool\n" + text[first_import:])


if __name__ == "__main__":
    main()
