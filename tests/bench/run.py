"""Benchmarks of the daemon, printed as ratios of one run: `tests/run --bench`, or this file with names.

Everything is a process of its own: the daemon, the stand-in of Kommo, what it is compared with, and the load.
Rounds are interleaved, and the median counts. A target that is missed is said; nothing fails, since machines
differ.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yarl import URL

from calllogd.voip.provider import services
from calllogd.voip.simulation import Kind, Scene, simulations
from tests.voip.configured import configured

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TOKEN = "bench-token-bench-token"
ACCOUNT = 31337
ROUNDS = 5
SECONDS = 3.0

CONFIG = """\
[http]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
account_rate = 100000
address_rate = 100000
[database]
url = "sqlite:///{folder}/calllogd.db"
[kommo]
rate = {rate}
[recordings]
path = "{folder}/recordings"
[log]
file = "{folder}/calllogd.log"
[[accounts]]
id = {account}
base_url = "{kommo}"
region = "US"
access_token = "{access}"
[accounts.voip.generic]
token = "{token}"
"""


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def verdict(name: str, value: float, target: float, *, most: bool, unit: str = "") -> None:
    """Print a figure beside its target."""
    right = value <= target if most else value >= target
    bound = "at most" if most else "at least"
    say(f"  {'ok    ' if right else 'MISSED'}  {name:58s} {value:9.3f}{unit}  ({bound} {target:g}{unit})")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.loads(answer.read())


def post(url: str, content: Mapping[str, object]) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(content).encode(), headers)
    with urllib.request.urlopen(request, timeout=5):
        pass


def until(condition: Callable[[], bool], seconds: float = 20.0) -> float:
    """Wait for a condition; return how long it took."""
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:
        if condition():
            return time.perf_counter() - began
        time.sleep(0.002)
    raise TimeoutError("the condition did not come true")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(*command: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, **more)
    try:
        yield started
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
            started.wait(timeout=20)


@contextmanager
def sandbox(rate: int) -> Iterator[tuple[str, str]]:
    """Start the stand-in of Kommo; give its address and token."""
    port, access = free_port(), secrets.token_hex(16)
    command = [sys.executable, "-m", "calllogd.sandbox", "--listen", f"127.0.0.1:{port}"]
    command += ["--account", str(ACCOUNT), "--token", access, "--rate", str(rate)]
    with process(*command):
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/_sandbox/state?account_id={ACCOUNT}"))
        yield url, access


def configure(folder: Path, kommo: str, access: str, rate: int) -> int:
    port = free_port()
    (folder / "calllogd.toml").write_text(
        CONFIG.format(
            port=port, folder=folder, rate=rate, account=ACCOUNT, kommo=kommo, access=access, token=TOKEN
        )
    )
    return port


@contextmanager
def daemon(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    config = str(folder / "calllogd.toml")
    with process(sys.executable, "-m", "calllogd", "--config", config) as started:
        until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
        yield started


@contextmanager
def compared(folder: Path) -> Iterator[int]:
    port = free_port()
    with process(sys.executable, str(HERE / "trivial.py"), str(port), str(folder / "naive.db")):
        until(lambda: answers(f"http://127.0.0.1:{port}/trivial"))
        yield port


def flood(port: int, path: str, connections: int, *, ids: str = "ordered") -> dict[str, float]:
    """Send webhooks as fast as they are answered.

    wrk sends them, whose own CPU time is a tenth of a server's: a sender in Python would take what the server
    and its writer need, and a server of one thread would lose the less by it.
    """
    arguments = ["-t1", f"-c{connections}", f"-d{SECONDS:.0f}s", "-s", str(HERE / "webhooks.lua")]
    command = ["wrk", *arguments, f"http://127.0.0.1:{port}{path}", "--", TOKEN, ids]
    return _sent(path, subprocess.run(command, check=True, capture_output=True, text=True).stderr)


def trickle(port: int, path: str, connections: int, rate: int) -> dict[str, float]:
    """Send webhooks at a fixed rate, whether they are answered or not."""
    arguments = [str(port), path, str(connections), str(SECONDS), str(rate)]
    command = [sys.executable, str(HERE / "load.py"), *arguments]
    return _sent(path, subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _sent(path: str, told: str) -> dict[str, float]:
    figures: dict[str, float] = json.loads(told)
    if figures["refused"]:
        say(f"  {figures['refused']:.0f} requests to {path} were refused")
    return figures


@contextmanager
def stage(rate: int = 7, sandbox_rate: int = 7) -> Iterator[tuple[Path, int, str]]:
    """Give a folder with a configuration, the daemon's port, and the stand-in's address."""
    with (
        tempfile.TemporaryDirectory(prefix="calllogd-bench-") as name,
        sandbox(sandbox_rate) as (url, access),
    ):
        yield Path(name), configure(Path(name), url, access, rate), url


WEBHOOK = f"/voip/generic/{ACCOUNT}"


def accepting() -> None:
    """How many webhooks a second, each durable, at 64 connections."""
    for ids in ("ordered", "random"):
        with stage() as (folder, port, _), compared(folder) as other, daemon(folder, port):
            ratios, naive = [], []
            for _ in range(ROUNDS):
                trivial = flood(other, "/trivial", 64, ids=ids)["per_s"]
                ours = flood(port, WEBHOOK, 64, ids=ids)["per_s"]
                first = flood(other, "/naive", 64, ids=ids)["per_s"]
                ratios.append(ours / trivial)
                naive.append(ours / first)
                say(f"          trivial {trivial:.0f}/s, calllogd {ours:.0f}/s, naive {first:.0f}/s")
            verdict(
                f"{ids} ids a second, of the trivial endpoint's", statistics.median(ratios), 0.55, most=False
            )
            verdict(
                f"{ids} ids a second, of insert, commit, enqueue's", statistics.median(naive), 6, most=False
            )


def syncing() -> None:
    """How many fdatasync calls accepting costs; the account is paused, so that its workers add none."""
    if shutil.which("strace") is None:
        say("  strace is not installed: fdatasync is not counted")
        return
    for connections, target in ((1, 1.1), (32, 0.2)):
        with stage() as (folder, port, url):
            body = json.dumps({"kind": "unauthorized"}).encode()
            urllib.request.urlopen(urllib.request.Request(f"{url}/_sandbox/faults", data=body, method="POST"))
            trace = folder / "trace"
            with daemon(folder, port) as started:
                time.sleep(0.5)
                tracing = [
                    "strace",
                    "-f",
                    "-qq",
                    "-e",
                    "trace=fdatasync",
                    "-o",
                    str(trace),
                    "-p",
                    str(started.pid),
                ]
                with process(*tracing):
                    until(trace.exists)
                    figures = flood(port, WEBHOOK, connections)
            synced = trace.read_text().count("fdatasync(")
            verdict(
                f"fdatasync an accepted call at {connections} connection(s)",
                synced / figures["answered"],
                target,
                most=True,
            )


def arriving() -> None:
    """The 99th percentile at 1,000 webhooks a second that do not wait for each other."""
    with stage() as (folder, port, _), compared(folder) as other, daemon(folder, port):
        ratios = []
        for _ in range(ROUNDS):
            trivial = trickle(other, "/trivial", 64, 1000)["p99_ms"]
            ours = trickle(port, WEBHOOK, 64, 1000)["p99_ms"]
            ratios.append(ours / trivial)
            say(f"          trivial {trivial:.2f} ms, calllogd {ours:.2f} ms")
        verdict("p99 at 1,000 a second, of the trivial endpoint's", statistics.median(ratios), 2.5, most=True)


def event(call_id: str, phone: str) -> dict[str, object]:
    return {
        "event": "call.ended",
        "call_id": call_id,
        "direction": "inbound",
        "phone": phone,
        "duration": 3,
        "status": "answered",
    }


def passing() -> None:
    """From the webhook to the note, and the requests that it takes."""
    with stage(rate=0, sandbox_rate=0) as (folder, port, url), daemon(folder, port):
        contact = json.dumps({"account_id": ACCOUNT, "name": "Ann", "phones": ["+15550100200"]}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{url}/_sandbox/contacts", data=contact))
        took = []
        for number in range(60):
            began = time.perf_counter()
            post(f"http://127.0.0.1:{port}{WEBHOOK}", event(f"known-{number}", "+15550100200"))
            entries = f"{url}/_sandbox/entries?account_id={ACCOUNT}&uniq=known-{number}"
            until(lambda entries=entries: bool(get(entries)["entries"]))  # type: ignore[misc]
            took.append(time.perf_counter() - began)
            time.sleep(0.02)
        verdict("webhook to note, median", 1000 * statistics.median(took), 100, most=True, unit=" ms")
        for name, phone, target in (("known", "+15550100200", 1), ("unknown inbound", "+1555987{:04d}", 2)):
            before = requests(url)
            for number in range(20):
                post(
                    f"http://127.0.0.1:{port}{WEBHOOK}", event(f"{name}-count-{number}", phone.format(number))
                )
            until(lambda: waiting(folder) == 0)
            made = (requests(url) - before) / 20
            verdict(f"requests to Kommo for a call of a number that is {name}", made, target, most=True)


def requests(url: str) -> int:
    return int(get(f"{url}/_sandbox/state?account_id={ACCOUNT}")["counters"]["requests"])


def waiting(folder: Path) -> int:
    with sqlite3.connect(f"file:{folder}/calllogd.db?mode=ro", uri=True) as ledger:
        return int(ledger.execute("SELECT count(*) FROM calls WHERE state <> 'logged'").fetchone()[0])


def resting() -> None:
    """What an idle daemon costs, and how soon it is there."""
    with stage() as (folder, port, _):
        began = time.perf_counter()
        with daemon(folder, port) as started:
            verdict("ready after its start", time.perf_counter() - began, 1.5, most=True, unit=" s")
            for number in range(50):
                post(f"http://127.0.0.1:{port}{WEBHOOK}", event(f"warm-{number}", f"+1555777{number:04d}"))
            until(lambda: waiting(folder) == 0, 30)
            time.sleep(1)
            ticks = cpu(started.pid)
            time.sleep(10)
            share = (cpu(started.pid) - ticks) / os.sysconf("SC_CLK_TCK") / 10 * 100
            verdict("CPU of an idle daemon", share, 1, most=True, unit=" %")
            status = Path(f"/proc/{started.pid}/status").read_text()
            resident = int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024  # type: ignore[union-attr]
            verdict("resident memory", resident, 80, most=True, unit=" MB")
        once(folder)
        began = time.perf_counter()
        once(folder)
        verdict("--once with nothing due", time.perf_counter() - began, 1, most=True, unit=" s")


def once(folder: Path) -> int:
    command = [sys.executable, "-m", "calllogd", "--config", str(folder / "calllogd.toml"), "--once"]
    return subprocess.run(command, env=environment(), check=False, capture_output=True).returncode


def cpu(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


FILL = """
INSERT INTO calls (account_id, call_id, arrived_at, direction, phone, started_at, status, duration, recording,
                   revision, due_at, entity_type, entity_id, note_id, state, written_revision)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
SELECT 31337, lower(hex(randomblob(8))) || '-old-' || i, 1780000000 + i, 'inbound', '+1555' || i,
       1780000000 + i, 'answered', 42, 'none', 1, NULL, 'contacts', i, i, 'logged', 1 FROM n
"""


def growing() -> None:
    """Accepting with a million calls in the ledger."""
    with stage() as (small, small_port, _), stage() as (large, large_port, _):
        with daemon(large, large_port):
            pass
        with sqlite3.connect(large / "calllogd.db") as ledger:
            (trigger,) = ledger.execute(
                "SELECT sql FROM sqlite_schema WHERE name = 'ring_for_new'"
            ).fetchone()
            ledger.execute("DROP TRIGGER ring_for_new")
            ledger.execute(FILL)
            ledger.execute(trigger)
        with daemon(small, small_port), daemon(large, large_port):
            ratios = []
            for _ in range(ROUNDS):
                few = flood(small_port, WEBHOOK, 64)["per_s"]
                many = flood(large_port, WEBHOOK, 64)["per_s"]
                ratios.append(many / few)
                say(f"          empty {few:.0f}/s, a million {many:.0f}/s")
        verdict(
            "accepted per second with 1,000,000 calls, of an empty ledger's",
            statistics.median(ratios),
            0.9,
            most=False,
        )


SPEAKING_ROUNDS = 7
SPEAKING_SECONDS = 1

REPLAYED = 9_000
"""Requests made for each round of a service: more than are answered in SPEAKING_SECONDS."""


def told_by(name: str, account_id: int, port: int, values: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield requests as a service sends them when a call has ended, each about a call of its own."""
    service = services()[name]
    address = service.address(f"http://127.0.0.1:{port}/voip/{name}/{account_id}", values)
    for number in range(REPLAYED):
        scene = Scene(
            kind=Kind.INBOUND,
            id=secrets.token_hex(16),
            phone=f"+1555{number % 10_000_000:07d}",
            line="+15005550006",
            extensions=["101", "102", "103"],
            started_at=float(int(time.time()) - 60),
            ring_s=5,
            talk_s=42,
        )
        sent = simulations()[name].messages(scene, address, values, time.time())[-1]
        head = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(sent.body)), **sent.headers}
        path = URL(sent.url, encoded=True).raw_path_qs
        lines = "".join(f"{key}: {value}\r\n" for key, value in head.items())
        yield f"{sent.method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + sent.body


def replay(port: int, name: str, folder: Path, requests: Iterator[bytes]) -> float:
    """Send requests as fast as they are answered; return how many are a second."""
    file = folder / "requests"
    with file.open("wb") as written:
        for one in requests:
            written.write(b"%d\n" % len(one) + one)
    arguments = ["-t1", "-c64", f"-d{SPEAKING_SECONDS}s", "-s", str(HERE / "replay.lua")]
    command = ["wrk", *arguments, f"http://127.0.0.1:{port}", "--", str(file)]
    figures = _sent(name, subprocess.run(command, check=True, capture_output=True, text=True).stderr)
    if figures["beyond"]:
        say(f"  too few requests were made for {name}: {figures['beyond']:.0f} were repeated")
    return figures["per_s"]


def speaking() -> None:
    """What accepting a webhook of each VoIP service costs, of the generic one's."""
    names = sorted(simulations().keys() & services().keys() - {"generic"})
    with stage() as (folder, port, kommo):
        # The account is paused, so that what came before is not worked on: only accepting is measured.
        post(f"{kommo}/_sandbox/faults", {"kind": "unpaid"})
        known: dict[str, Mapping[str, Any]] = {"generic": {"token": TOKEN}}
        with (folder / "calllogd.toml").open("a") as config:
            for name in names:
                values = configured(name)
                known[name] = values
                own = values.keys() & services()[name].settings.keys()
                settings = {key: values[key] for key in sorted(own) if values[key] is not None}
                config.write(f"[accounts.voip.{name}]\n")
                config.writelines(f"{key} = {toml(value)}\n" for key, value in settings.items())
        with daemon(folder, port):
            costs: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(SPEAKING_ROUNDS):
                for name in names:
                    plain = _replayed(port, "generic", folder, known)
                    costs[name].append(plain / _replayed(port, name, folder, known))
    for name, ratios in costs.items():
        cost = statistics.median(ratios)
        verdict(f"accepting a webhook of {name}, of a generic one's", cost, 1.5, most=True)


def _replayed(port: int, name: str, folder: Path, known: Mapping[str, Mapping[str, Any]]) -> float:
    defaults = {key: setting.default for key, setting in services()[name].settings.items()}
    values = {**defaults, **known[name]}
    return replay(port, name, folder, told_by(name, ACCOUNT, port, values))


def toml(value: Any) -> str:
    """Return a setting as it stands in a configuration, of one that has been read."""
    return json.dumps(value if isinstance(value, str | int | list) else str(value))


BENCHES = {
    bench.__name__: bench for bench in (accepting, syncing, arriving, passing, resting, growing, speaking)
}


def main(names: list[str]) -> None:
    if shutil.which("wrk") is None:
        sys.exit("the benchmarks need wrk: sudo apt-get install wrk")
    for name in names or BENCHES:
        say(f"{name}: {(BENCHES[name].__doc__ or '').splitlines()[0]}")
        BENCHES[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
