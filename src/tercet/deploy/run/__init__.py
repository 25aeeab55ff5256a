"""Execution of plans: phases, confirmation, locks, and rolling restarts.

`apply`, `rolling` and `destroy` build plans, `executor` runs them, `events` reports progress.

Nothing outside the confirmed plan is executed, and no member of three is restarted while another one is down. This is the top
layer: it may import every package of `deploy/` except `draft/`; inside `deploy/` only `deployment.py` imports it.
"""
