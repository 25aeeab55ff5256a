"""Plans carried out: in which phases, on whose word, under which locks, and one member after the other.

`apply`, `rolling` and `destroy` put plans together, `executor` carries any of them out, `events` is what is heard meanwhile.

Never: do what the plan did not show, or restart a member of three while another one is down. It is the top: it may import all
of `deploy/` but `draft/`, and nothing in there but `deployment.py` imports it.
"""
