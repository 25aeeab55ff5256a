"""One file for each gRPC service: decode, check, hand to the replica, encode. No rule of the store or of raft lives here."""
