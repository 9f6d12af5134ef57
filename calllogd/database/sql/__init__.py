"""The ledger's schema, one numbered script for each change of it."""
