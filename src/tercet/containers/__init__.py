"""Containers whose growth is never one long step: with a million keys, a list or dictionary that is copied costs 0.1 s.

sorted_keys.py    keys in order, in chunks
sharded_dict.py   a map in 256 dictionaries
"""

from tercet.containers.sharded_dict import ShardedDict, shard_number
from tercet.containers.sorted_keys import SortedKeys

__all__ = ["ShardedDict", "SortedKeys", "shard_number"]
