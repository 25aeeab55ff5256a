"""The descriptor pool that holds our messages, apart from protobuf's default one (see generate.py)."""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
