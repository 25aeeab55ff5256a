"""SSH connections to hosts, configured like `ssh`: log in, become root, run commands, write files atomically.

`connections` opens them, `remote` has `Host`, `host_error` its errors.

This package does not know the purpose of a command and does not retry. Passwords, keys and file contents never appear on a
command line or in a message. It imports `cluster/` only.
"""

from tercet.deploy.ssh import asyncssh_import as asyncssh_import
