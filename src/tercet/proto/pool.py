"""The descriptor pool of tercet's messages, separate from protobuf's default pool (see generate.py)."""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
