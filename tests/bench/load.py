"""Load on a loopback HTTP server: closed loop (as fast as it answers) or open loop (a fixed rate).

Run as a process of its own, so that it does not share an interpreter with what it measures:
`python load.py closed|open PORT PATH CONNECTIONS SECONDS ordered|random [RATE]`; prints one JSON object. Call
ids grow with time, as those of most exchanges do, or are random.
"""

import asyncio
import json
import random
import sys
import time
from typing import Any

HEAD = (
    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
)
MOST_PER_S = 30_000
TOKEN = "bench-token-bench-token"


def body(number: int, seed: str, ids: str) -> bytes:
    """Return a webhook of about 350 bytes with an id of its own."""
    call_id = f"{seed}-{number:09d}" if ids == "ordered" else f"{random.getrandbits(64):016x}-{seed}-{number}"
    event = {
        "event": "call.ended",
        "call_id": call_id,
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

    def __init__(self, path: str, connections: int, seconds: float, ids: str, rate: float | None) -> None:
        self.path = path
        self.connections = connections
        self.seconds = seconds
        self.rate = rate
        self.ready = iter(self._requests(int(seconds * (rate or MOST_PER_S)) + connections, ids))
        self.took: list[float] = []
        self.refused = 0
        self.idle: list[Client] = []
        self.over = False

    def _requests(self, number: int, ids: str) -> list[bytes]:
        """Return requests made beforehand: making them meanwhile would slow the sender down."""
        seed = f"{time.time_ns():x}"
        contents = [body(place, seed, ids) for place in range(number)]
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
        if self.rate is None and not self.over:
            client.send(time.perf_counter())
        else:
            self.idle.append(client)

    async def run(self, port: int) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        for _ in range(self.connections):
            await loop.create_connection(lambda: Client(self), "127.0.0.1", port)
        began = time.perf_counter()
        if self.rate is None:
            for client in self.idle[:]:
                self.idle.remove(client)
                client.send(time.perf_counter())
            await asyncio.sleep(self.seconds)
            self.over = True
        else:
            await self._arrive(began)
        elapsed = time.perf_counter() - began
        done = len(self.took)
        while len(self.idle) < self.connections:
            await asyncio.sleep(0.01)
        took = sorted(self.took)
        return {
            "per_s": done / elapsed,
            "p50_ms": 1000 * took[len(took) // 2],
            "p99_ms": 1000 * took[int(len(took) * 0.99)],
            "answered": len(took),
            "refused": self.refused,
        }

    async def _arrive(self, began: float) -> None:
        """Send at scheduled instants; what finds no free connection waits, and its wait counts."""
        assert self.rate is not None
        total = int(self.seconds * self.rate)
        number = 0
        while number < total:
            now = time.perf_counter()
            while number < total and began + number / self.rate <= now and self.idle:
                self.idle.pop().send(began + number / self.rate)
                number += 1
            await asyncio.sleep(0.0005)


def main() -> None:
    kind, port, path, connections, seconds, ids = sys.argv[1:7]
    rate = float(sys.argv[7]) if kind == "open" else None
    load = Load(path, int(connections), float(seconds), ids, rate)
    sys.stdout.write(json.dumps(asyncio.run(load.run(int(port)))))


if __name__ == "__main__":
    main()
