"""Words to systemd, for units of Type=notify; nothing is said where there is no systemd."""

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send a state such as READY=1. Source: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_UNIX, kind) as channel, contextlib.suppress(OSError):
        # Nobody listening is no reason for the daemon to die.
        channel.connect(address)
        channel.sendall(state.encode())


def watchdog_s() -> float | None:
    """Return the seconds within which systemd wants to hear of us, None if it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) > 0 else None
