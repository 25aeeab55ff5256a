"""A member, or a cluster of several, inside another Python program.

    async with tercet.Server() as server:                 # in memory, in the running event loop
        client = server.client()

`Server` is one member in the caller's event loop, `Cluster` several; `ThreadedServer` is a member in a thread of its own, and
`ServerProcess` one in a process of its own. None of them installs signal handlers, configures logging or changes other global
state.
"""

import logging

# As libraries do: without a handler, the standard library would print a member's warnings to the program's stderr.
logging.getLogger("tercet").addHandler(logging.NullHandler())
