"""Tests of consensus: transcripts, the rules of the paper by section, random faults, and messages recorded from etcd."""
