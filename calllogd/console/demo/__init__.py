"""`calllogd demo`: the real daemon against a stand-in of Kommo, and the promises counted."""

from calllogd.console.demo.run import run

__all__ = ["run"]
