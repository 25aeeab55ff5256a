"""etcd's messages and gRPC stubs, with the names of rpc.proto."""

from tercet.compat.stubs import AuthStub, ClusterStub, KVStub, LeaseStub, MaintenanceStub, WatchStub  # noqa: F401
from tercet.proto.rpc_pb2 import *  # noqa: F403
