"""Mutation bench of the simulator: planted bugs, each of which it must catch within SEEDS_MAX seeds (`make mutants`).

A mutant names a file below src/tercet, a text that occurs in it exactly once, its replacement, and what that breaks.
test_mutants.py checks, in the normal suite, that every mutant still applies; run.py runs them.
"""
