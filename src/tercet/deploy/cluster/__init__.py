"""The cluster file: cluster.yaml parsed, validated, and converted to a `Cluster`.

`cluster_file` loads it, `settings` and `document` are the schema, `member_flags` converts it to etcd's flags.

This package reads nothing but the file and imports no other package of `deploy/`; from the server's configuration it uses only
what `server_facts` exports.
"""
