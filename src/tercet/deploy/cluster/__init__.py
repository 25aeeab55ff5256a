"""What is wanted: cluster.yaml, read, checked, and made one `Cluster`, which the rest of the room stands on.

`cluster_file` is the way in, `settings` and `document` are the schema, `member_flags` says the same in etcd's flags.

Never: ask a host, or know how one is; nothing is read here but the file. It stands on nothing else of `deploy/`; of the server
it knows what `server_facts` lets through, and no more.
"""
