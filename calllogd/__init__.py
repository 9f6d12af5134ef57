"""calllogd logs phone calls in Kommo: a call ends, and Kommo shows it once."""

__version__ = "0.1.0"
