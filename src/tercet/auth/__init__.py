"""Users, roles and permissions, tokens and passwords.

`AuthStore` is the replicated state and decides who may do what; `Tokens` identify the callers of one member. No knowledge of
calls or of other members.
"""

from tercet.auth.identity import NOBODY, Identity
from tercet.auth.permissions import is_empty
from tercet.auth.store import AuthStore
from tercet.auth.tokens import Claim, NoTokens, SimpleTokens, Tokens, fingerprint

__all__ = ["NOBODY", "AuthStore", "Claim", "Identity", "NoTokens", "SimpleTokens", "Tokens", "fingerprint", "is_empty"]
