"""Running members: client calls, starting and stopping their services, their journals.

`members` calls them as an etcd client, `service` uses systemd, `logs` reads the journals.

This package does not decide whether a member may be restarted, nor in which order. It imports `cluster/` and `ssh/`.
"""
