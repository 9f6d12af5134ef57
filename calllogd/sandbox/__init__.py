"""A stand-in of Kommo: a real HTTP server with a world of its own, Kommo's rules, and faults."""

from calllogd.sandbox.faults import Fault, FaultKind, FaultScript
from calllogd.sandbox.records import Card, EntityType, EntryView, IncomingLead, Lead, Note, User
from calllogd.sandbox.server import RequestRecord, SandboxKommo
from calllogd.sandbox.world import Account

__all__ = [
    "Account",
    "Card",
    "EntityType",
    "EntryView",
    "Fault",
    "FaultKind",
    "FaultScript",
    "IncomingLead",
    "Lead",
    "Note",
    "RequestRecord",
    "SandboxKommo",
    "User",
]
