"""etcd's messages and gRPC stubs, with the names of rpc.proto, and grpcio's names for channels and errors."""

from tercet.compat.aetcd.errors import AioRpcError, RpcError, StatusCode  # noqa: F401
from tercet.compat.endpoint_channel import EndpointChannel as Channel
from tercet.compat.stubs import AuthStub, ClusterStub, KVStub, LeaseStub, MaintenanceStub, WatchStub  # noqa: F401
from tercet.proto.auth_pb2 import *  # noqa: F403
from tercet.proto.kv_pb2 import *  # noqa: F403
from tercet.proto.rpc_pb2 import *  # noqa: F403

insecure_channel = Channel
