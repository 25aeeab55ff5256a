"""Message classes from serialized descriptors, in a descriptor pool of their own.

The code that protoc generates for Python refuses a protobuf runtime that is older than protoc, or more than one major version
newer, so a program could not install tercet beside packages that need another version. The modules `*_pb2.py` therefore hold
only what is stable, the serialized FileDescriptorProto, and `define_messages` makes the classes from it, under any
protobuf from 4.25 on.

With protobuf's default pool a program could not import both tercet and another etcd client: both define messages such as
`etcdserverpb.RangeRequest`, and a pool accepts each name only once.

Where protobuf is the C extension `upb`, pool and metaclass are taken from there: `google.protobuf.descriptor_pool` imports the
whole pure-Python implementation as well, which takes longer than all else here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf.internal import api_implementation
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

if not TYPE_CHECKING and api_implementation.Type() == "upb":
    from google._upb._message import DescriptorPool, MessageMeta
else:
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.internal.python_message import GeneratedProtocolMessageType as MessageMeta

POOL: Final = DescriptorPool()


def define_messages(namespace: dict[str, Any], serialized: bytes) -> None:
    """Define in a module what protoc's code would: DESCRIPTOR, the messages, the enums and the values of the enums.

    namespace: the module's globals(). The modules of the files that this one imports must be loaded already.
    """
    POOL.AddSerializedFile(serialized)  # what it returns depends on the version
    file = POOL.FindFileByName(_file_name(serialized))
    namespace["DESCRIPTOR"] = file
    for name, enum in file.enum_types_by_name.items():
        namespace[name] = EnumTypeWrapper(enum)
        namespace.update((value.name, value.number) for value in enum.values)
    for name, message in file.message_types_by_name.items():
        namespace[name] = _message_class(message, namespace["__name__"], name)


def _message_class(descriptor: Any, module: str, qualified_name: str) -> Any:
    """The class of a message; those of nested messages are its attributes. Module and qualified name are for pickle."""
    attributes = {"DESCRIPTOR": descriptor, "__module__": module, "__qualname__": qualified_name}
    for name, nested in descriptor.nested_types_by_name.items():
        attributes[name] = _message_class(nested, module, f"{qualified_name}.{name}")
    return MessageMeta(descriptor.name, (Message,), attributes)


def _file_name(serialized: bytes) -> str:
    """The first field of a FileDescriptorProto: tag 0x0a, a length below 128, the name."""
    return serialized[2 : 2 + serialized[1]].decode()
