"""Configuration of a member: flags, environment and file read through one table, validated, as a typed ServerConfig.

Source: etcd server/embed/config.go and server/etcdmain/config.go.
"""
