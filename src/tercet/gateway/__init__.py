"""The JSON gateway: etcd's gRPC methods as POST requests under /v3/, with protobuf's JSON mapping.

    POST /v3/kv/range {"key":"Zm9v"}     -> {"header":{...}, "kvs":[...], "count":"1"}
    POST /v3/watch {"create_request":..} -> {"result":{...}} a line, until the client disconnects

A request becomes a call within the process: the handlers, checks and counters are those of gRPC.

Source: etcd server/embed/serve.go (registerGateway); grpc-gateway v2, whose responses clients depend on.
"""

from tercet.gateway.gateway import Gateway

__all__ = ["Gateway"]
