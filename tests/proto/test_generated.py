"""The modules made from the .proto files: complete, up to date, and independent of the version of protobuf."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tercet.proto import kv_pb2, rpc_pb2
from tests.proto.program import output
from tests.support.waiting import scaled

ROOT = Path(__file__).parents[2]
PROTO = ROOT / "src" / "tercet" / "proto"


def test_a_module_has_what_protoc_defines() -> None:
    assert rpc_pb2.DESCRIPTOR.name == "tercet/proto/rpc.proto"
    assert rpc_pb2.RangeRequest.ASCEND == 1
    assert rpc_pb2.CORRUPT == rpc_pb2.AlarmType.Value("CORRUPT") == 2
    assert rpc_pb2.RangeResponse(kvs=[kv_pb2.KeyValue(key=b"a")]).kvs[0].DESCRIPTOR is kv_pb2.KeyValue.DESCRIPTOR
    assert type(rpc_pb2.RangeResponse(kvs=[kv_pb2.KeyValue()]).kvs[0]) is kv_pb2.KeyValue


def test_a_message_can_be_pickled() -> None:
    put = rpc_pb2.PutRequest(key=b"k", lease=-1)
    assert pickle.loads(pickle.dumps(put)) == put


def test_the_python_implementation_of_protobuf_gives_the_same() -> None:
    assert output(PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python") == output()


def test_importing_the_messages_leaves_out_protobufs_python_implementation() -> None:
    """It takes longer to import than all that is used of protobuf."""
    program = "import sys; from tercet.proto import rpc_pb2; print('google.protobuf.internal.python_message' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=scaled(60), check=True)
    assert done.stdout == "False\n"


def test_the_generated_modules_are_up_to_date(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    from tercet.proto.generate import module

    schemas = sorted(str(path.relative_to(ROOT / "src")) for path in PROTO.glob("*.proto"))
    words = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={tmp_path / 'set'}", *schemas]
    subprocess.run(words, cwd=ROOT / "src", check=True, timeout=scaled(60), capture_output=True)
    for file in FileDescriptorSet.FromString((tmp_path / "set").read_bytes()).file:
        made = ROOT / "src" / file.name.replace(".proto", "_pb2.py")
        assert made.read_text() == module(file), "run python -m tercet.proto.generate"
