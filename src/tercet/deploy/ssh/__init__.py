"""Hosts, reached as `ssh` would reach them: log in, become root, run a command, put a file there whole.

`connections` is the way in, `remote` has the `Host` that it gives, `host_error` what goes wrong on one.

Never: know what a command is for, or say again what failed; no password, key or content of a file reaches a command line or a
message. Of `deploy/` it imports `cluster/` alone, for where the hosts are.
"""
