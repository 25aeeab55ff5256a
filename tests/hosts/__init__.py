"""Three real hosts on one machine: systemd, sshd and Python in namespaces of their own, for `tercet deploy` to work on."""
