"""What this room knows of the server: the table of its flags, and how its durations and URLs are written.

Nothing else in `deploy/` may look into `server/`; what runs there is a program on another host, perhaps of another version.
"""

from tercet.config.flag_table import FLAGS, KNOWN, RETIRED
from tercet.config.flags import Flag, Kind, Retired
from tercet.gotext.duration import parse_duration
from tercet.gotext.urls import Url, parse_url, parse_urls

__all__ = ["FLAGS", "KNOWN", "RETIRED", "Flag", "Kind", "Retired", "Url", "parse_duration", "parse_url", "parse_urls"]
