"""The messages of rpc.proto."""

from tercet.proto.rpc_pb2 import *  # noqa: F403
