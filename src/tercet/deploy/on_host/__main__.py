"""The entry point of backup.pyz."""

from __future__ import annotations

import sys

from tercet.deploy.on_host.backup_job import main

sys.exit(main())
