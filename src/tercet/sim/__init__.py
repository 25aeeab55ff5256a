"""Simulator: whole clusters in one process, in virtual time, on faulty networks and disks.

The members run production's replica, raft, log and store; only clock, network, disk and chance are replaced. A seed determines
a run completely. `tercet sim --seeds 0-999` runs many; simulator.py lists what is checked.
"""
