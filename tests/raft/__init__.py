"""Consensus, judged by transcripts, by the paper's sections, by chance, and by bytes that etcd wrote."""
