"""Artifacts: the engine as one file, built or downloaded, verified, cached; and the commands that install it on a host.

`artifacts` creates the file, `release` has the installation commands.

This package never connects to a host. It imports `cluster/` only.
"""
