"""Whole clusters in one process, in virtual time, on networks and disks that are not to be trusted.

The members are production's own replica, raft, log and store; only clock, network, disk and chance are replaced. A seed is a
run, and always the same run. `tercet sim --seeds 0-999` plays many; simulator.py says what a run must keep.
"""
