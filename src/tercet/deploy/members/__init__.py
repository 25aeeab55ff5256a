"""The members while they run: what they answer, how their services are started and stopped, what their journals say.

`members` asks them as a client does, `service` asks systemd, `logs` reads along.

Never: decide whether a member may be touched, or in what order; that is for those above. Of `deploy/` it imports `cluster/` and
`ssh/`.
"""
