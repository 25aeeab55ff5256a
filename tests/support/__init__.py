"""Helpers shared by the tests of several packages: ports, waiting, processes, the real etcd, and a client based on grpcio."""
