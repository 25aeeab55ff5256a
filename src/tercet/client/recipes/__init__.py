"""Coordination between processes: locks, elections, queues and more, made of keys, leases and watches.

Each recipe is one file, which opens with its keys. Where etcd's Go client has the recipe, the keys are the same, so that
processes in both languages coordinate with each other.
"""
