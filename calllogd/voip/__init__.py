"""Calls of VoIP services: tasks, use cases and providers, by the words of Kommo's VoIP guide."""
