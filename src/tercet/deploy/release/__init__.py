"""The engine as one file, and what a host does with it: built or fetched, checked, kept, installed, switched to.

`artifacts` is the way in: it makes the file. `release` says in commands how a host makes a release of it.

Never: talk to a host: what is to be done there are texts, for others to run. Of `deploy/` it imports `cluster/` alone, for
which engine is wanted.
"""
