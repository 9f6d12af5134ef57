"""Load on a loopback HTTP server at a fixed rate, whether it keeps up or not.

Run as a process of its own, so that it does not share an interpreter with what it measures:
`python load.py PORT PATH CONNECTIONS SECONDS RATE`; prints one JSON object.
"""

import asyncio
import json
import sys
import time
from typing import Any

HEAD = (
    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
)
TOKEN = "bench-token-bench-token"


def body(number: int, seed: str) -> bytes:
    """Return a webhook of about 350 bytes with an id of its own."""
    event = {
        "event": "call.ended",
        "call_id": f"{seed}-{number:09d}",
        "direction": "inbound",
        "phone": f"+1555{number % 10_000_000:07d}",
        "extension": "101",
        "started_at": 1_790_000_000,
        "duration": 42,
        "status": "answered",
        "padding": "x" * 120,
    }
    return json.dumps(event).encode()


class Client(asyncio.Protocol):
    """One connection; sends the next request when told to."""

    def __init__(self, load: "Load") -> None:
        self.load = load
        self.waiting: list[float] = []
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.load.connected(self)

    def send(self, since: float) -> None:
        self.waiting.append(since)
        self.transport.write(self.load.request())

    def data_received(self, chunk: bytes) -> None:
        self.buffer += chunk
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            at = head.index(b"content-length:") + 15
            stop = head.find(b"\r\n", at)
            size = end + 4 + int(head[at : stop if stop > 0 else len(head)])
            if len(self.buffer) < size:
                return
            ok = self.buffer[9:10] == b"2"
            self.buffer = self.buffer[size:]
            self.load.answered(self, self.waiting.pop(0), ok)


class Load:
    """Keeps the connections busy and counts."""

    def __init__(self, path: str, connections: int, seconds: float, rate: float) -> None:
        self.path = path
        self.connections = connections
        self.seconds = seconds
        self.rate = rate
        self.ready = iter(self._requests(int(seconds * rate)))
        self.took: list[float] = []
        self.refused = 0
        self.idle: list[Client] = []

    def _requests(self, number: int) -> list[bytes]:
        """Return requests made beforehand: making them meanwhile would slow the sender down."""
        seed = f"{time.time_ns():x}"
        contents = [body(place, seed) for place in range(number)]
        return [
            HEAD.format(path=self.path, token=TOKEN, length=len(each)).encode() + each for each in contents
        ]

    def request(self) -> bytes:
        return next(self.ready)

    def connected(self, client: Client) -> None:
        self.idle.append(client)

    def answered(self, client: Client, since: float, ok: bool) -> None:
        self.took.append(time.perf_counter() - since)
        self.refused += not ok
        self.idle.append(client)

    async def run(self, port: int) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        for _ in range(self.connections):
            await loop.create_connection(lambda: Client(self), "127.0.0.1", port)
        await self._arrive(time.perf_counter())
        while len(self.idle) < self.connections:
            await asyncio.sleep(0.01)
        took = sorted(self.took)
        return {"p99_ms": 1000 * took[int(len(took) * 0.99)], "answered": len(took), "refused": self.refused}

    async def _arrive(self, began: float) -> None:
        """Send at scheduled instants; what finds no free connection waits, and its wait counts."""
        total = int(self.seconds * self.rate)
        number = 0
        while number < total:
            now = time.perf_counter()
            while number < total and began + number / self.rate <= now and self.idle:
                self.idle.pop().send(began + number / self.rate)
                number += 1
            await asyncio.sleep(0.0005)


def main() -> None:
    port, path, connections, seconds, rate = sys.argv[1:]
    load = Load(path, int(connections), float(seconds), float(rate))
    sys.stdout.write(json.dumps(asyncio.run(load.run(int(port)))))


if __name__ == "__main__":
    main()
