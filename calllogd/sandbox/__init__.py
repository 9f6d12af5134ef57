"""A stand-in of Kommo: a real HTTP server with a world of its own, Kommo's rules, OAuth, webhooks, faults.

And one of a VoIP service's recording server.
"""

from calllogd.sandbox.entries import Doubled, History
from calllogd.sandbox.exchange import FetchRecord, Mishap, MishapKind, Recordings, SandboxExchange
from calllogd.sandbox.faults import Fault, FaultKind, FaultScript
from calllogd.sandbox.hooks import HookRecord
from calllogd.sandbox.integration import Integration
from calllogd.sandbox.records import Card, EntityType, EntryView, IncomingLead, Lead, Note, User
from calllogd.sandbox.rules import Rules
from calllogd.sandbox.server import RequestRecord, SandboxKommo
from calllogd.sandbox.world import Account

__all__ = [
    "Account",
    "Card",
    "Doubled",
    "EntityType",
    "EntryView",
    "Fault",
    "FaultKind",
    "FaultScript",
    "FetchRecord",
    "History",
    "HookRecord",
    "IncomingLead",
    "Integration",
    "Lead",
    "Mishap",
    "MishapKind",
    "Note",
    "Recordings",
    "RequestRecord",
    "Rules",
    "SandboxExchange",
    "SandboxKommo",
    "User",
]
