"""Exit codes of every command, by sysexits(3)."""

EX_OK = 0
EX_FAILED = 1
"""Something is not as it should be, and was said on standard error."""

EX_USAGE = 2
EX_TEMPFAIL = 75
"""Something is left to do: run it again."""

EX_CONFIG = 78
"""The configuration or the database cannot be used: mend it first."""

EX_INTERRUPTED = 130
