"""A cluster.yaml to begin with: from names and addresses, or from what a deployment by hand has left.

`importing` is the way in for an environment.sh and units, `template` writes the text.

Never: run what is read, or guess where it contradicts itself. Of `deploy/` it imports `cluster/` alone, and nothing but the
command line imports it: once there is a cluster file, nobody asks where it came from.
"""
