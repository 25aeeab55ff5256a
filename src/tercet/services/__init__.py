"""One file per gRPC service: decode, check, call the replica, encode. No rule of the store or of raft is here."""
