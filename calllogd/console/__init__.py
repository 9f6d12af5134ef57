"""Processes and commands: the daemon, its workers, and the command line."""
