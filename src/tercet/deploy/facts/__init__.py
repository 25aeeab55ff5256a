"""The state of hosts: facts, gathered in one round trip per host, and preflight checks on them.

`facts` is for planning, `preflight` for the operator; `probe` is the program that runs on the host.

This package changes nothing and decides nothing. It imports `cluster/` and `ssh/`.
"""
