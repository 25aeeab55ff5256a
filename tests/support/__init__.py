"""What tests of several packages share: ports, waiting, processes, the real etcd and a client of another implementation."""
