"""Log output of a member: zap's JSON and console formats, rotation, the systemd journal."""
