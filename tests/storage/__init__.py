"""Tests of the disk: what was promised is there again, whatever happened in between."""
