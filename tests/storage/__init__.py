"""Tests of the write-ahead log and the backends: what was acknowledged as durable survives every crash."""
