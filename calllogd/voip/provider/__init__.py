"""VoIP services: what they send, told in calllogd's words. Pure: bytes in, an event out."""
