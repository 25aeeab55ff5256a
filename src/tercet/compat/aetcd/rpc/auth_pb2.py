"""The messages of auth.proto."""

from tercet.proto.auth_pb2 import *  # noqa: F403
