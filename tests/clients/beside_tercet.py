"""Messages of the same names in one process: python beside_tercet.py MODULE, with tercet's sources on the path.

MODULE contains another client's generated messages. Runs in the environment of the third-party clients.
"""

from __future__ import annotations

import sys
from importlib import import_module


def main(module: str) -> None:
    theirs = import_module(module)
    from tercet.proto import rpc_pb2

    assert rpc_pb2.PutRequest.DESCRIPTOR.full_name == theirs.PutRequest.DESCRIPTOR.full_name
    assert rpc_pb2.PutRequest is not theirs.PutRequest
    encoded = rpc_pb2.PutRequest(key=b"k", value=b"v", lease=7).SerializeToString()
    assert theirs.PutRequest.FromString(encoded).SerializeToString() == encoded


if __name__ == "__main__":
    main(*sys.argv[1:])
    print("all held")
