"""The messages of kv.proto."""

from tercet.proto.kv_pb2 import *  # noqa: F403
