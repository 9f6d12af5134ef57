"""The queue: Huey in the ledger's file, used as a doorbell."""
