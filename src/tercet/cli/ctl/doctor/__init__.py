"""doctor: examines a cluster through its API and its metrics. `facts` asks the members, `checks` and `conditions` judge."""
