"""`python -m tercet`: the same as `tercet`."""

import sys

from tercet.cli.tercet import main

sys.exit(main())
