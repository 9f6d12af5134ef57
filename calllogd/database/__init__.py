"""The ledger: calls and what happened to them, in one SQLite file."""
