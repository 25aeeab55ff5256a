"""What is: each host as it is found, in one round trip, and whether anything there stands in the way.

`facts` is the way in for plans, `preflight` for people; `probe` is what runs on the host.

Never: change anything, on a host or here, or decide what is to be done about it. Of `deploy/` it imports `cluster/` and `ssh/`.
"""
