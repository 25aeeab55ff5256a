"""The parts of the server's configuration that `deploy` uses: the flag table, durations and URLs.

No other module of `deploy/` imports `config`: the members run another program, perhaps of another version.
"""

from tercet.config.flag_table import FLAGS, KNOWN, RETIRED
from tercet.config.flags import Flag, Kind, Retired
from tercet.gotext.duration import parse_duration
from tercet.gotext.urls import Url, parse_url, parse_urls

__all__ = ["FLAGS", "KNOWN", "RETIRED", "Flag", "Kind", "Retired", "Url", "parse_duration", "parse_url", "parse_urls"]
