"""Comparisons and operations of a transaction."""

from tercet.compat.transactions import BaseCompare, Create, Delete, Get, Mod, Put, Txn, Value, Version

__all__ = ["BaseCompare", "Create", "Delete", "Get", "Mod", "Put", "Txn", "Value", "Version"]
