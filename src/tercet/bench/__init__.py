"""Benchmarks: a load generator for any server that speaks etcd's API, and comparisons of tercet with etcd.

`tercet bench put`, `python -m tercet.bench.compare` (make bench), `python -m tercet.bench.scale` (make bench-scale).
"""
