"""The daemon: HTTP, workers and recovery in one process."""

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from aiohttp import web

from calllogd.config import Settings
from calllogd.console.parts import Parts, parts
from calllogd.console.services import services_of
from calllogd.console.systemd import notify, watchdog_s
from calllogd.errors import ConfigError, StorageError
from calllogd.log import set_up
from calllogd.voip.task.add_call import AddCallTask
from calllogd.web.app import make_app
from calllogd.web.desk import Desk
from calllogd.web.feed import Feed

SWEEP_S = 1.0
SET_BACK_S = 5.0
"""A clock that is slewed may lose so much between two sweeps."""

CHECKPOINT_S = 0.25
HEALTH_S = 5.0
CLOSE_HTTP_S = 2.0
PATIENCE_S = 6.0
"""How long requests to Kommo in flight may take once the daemon has been asked to stop."""

IDLE_S = 150.0
"""How long a connection may bring no whole request: longer than a proxy keeps one that it may yet use.

Caddy does so for two minutes. aiohttp waits an hour: whoever only connects would soon have all connections.
"""

BACKLOG = 512
GC_OBJECTS = 20_000
"""New objects between two collections: a webhook makes dozens, all of which go by themselves."""

_log = logging.getLogger(__name__)


class Asked(Enum):
    """What a signal asks of the daemon."""

    STOP = "stop"
    RELOAD = "reload"
    REBUILD = "rebuild"
    """The accounts that the ledger tells of are others than before."""


@dataclass(frozen=True, slots=True)
class _Front:
    """What the world sees, which outlives a reload.

    Operators' sessions end with the process: which of them were logged out is remembered no longer.
    """

    desk: Desk
    feed: Feed
    runner: web.AppRunner
    session_key: bytes = field(repr=False)


def serve(settings: Settings, reload: Callable[[], Settings]) -> None:
    """Run until SIGTERM or SIGINT. SIGHUP builds everything anew from what `reload` returns.

    Raises ConfigError when the address or the database cannot be used, and whatever ends a part of the
    daemon: a daemon with a dead part must not seem alive.
    """
    with _listening(settings) as listening:
        asyncio.run(_serve(settings, reload, listening))


async def _serve(settings: Settings, reload: Callable[[], Settings], listening: socket.socket) -> None:
    asked: asyncio.Queue[Asked] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number, meaning in (
        (signal.SIGTERM, Asked.STOP),
        (signal.SIGINT, Asked.STOP),
        (signal.SIGHUP, Asked.RELOAD),
    ):
        loop.add_signal_handler(number, asked.put_nowait, meaning)
    desk = Desk()
    front = _Front(desk, Feed(), await _listen(desk, listening), secrets.token_bytes(32))
    proven: Settings | None = None
    following: Settings | None = settings
    try:
        while following is not None:
            try:
                proven, following = following, await _run(following, reload, front, asked)
            except ConfigError as error:
                # The new configuration reads well, but its ledger cannot be opened.
                if proven is None or proven is following:
                    raise
                _refused(error, proven)
                following = proven
    finally:
        await front.runner.cleanup()
    _log.info("stopped")


async def _run(
    settings: Settings,
    reload: Callable[[], Settings],
    front: _Front,
    asked: asyncio.Queue[Asked],
) -> Settings | None:
    """Serve with one configuration; return the one to go on with, None to stop."""
    async with parts(settings, told=front.feed.teller) as built:
        loop = asyncio.get_running_loop()

        def answer(task: AddCallTask) -> None:
            loop.call_soon_threadsafe(built.worker.ring, task)

        # What is here by now stays for good: the collector need not go through it ever again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_OBJECTS, 20, 20)
        await built.calls.probe_paused(built.clock.now())
        await built.with_recordings.fetch_anew()
        following: Settings | None = None
        try:
            await built.queue.open(answer)
            front.desk.put(await services_of(built, front.feed, front.session_key))
            notify("READY=1")
            _log.info("listening on %s", ", ".join(map(_address, front.runner.addresses)))
            while (what := await _watch(built, asked)) is not Asked.STOP:
                notify("RELOADING=1")
                following = settings if what is Asked.REBUILD else _reloaded(settings, reload)
                if following is not None:
                    break
                notify("READY=1")
            return following
        finally:
            if following is None:
                notify("STOPPING=1")
                await front.runner.cleanup()
            # Before a reload, webhooks are accepted while the workers finish.
            await built.queue.close()
            await asyncio.gather(built.worker.close(PATIENCE_S), built.fetch_worker.close(PATIENCE_S))
            await front.desk.clear()


def _reloaded(settings: Settings, reload: Callable[[], Settings]) -> Settings | None:
    """Return the new settings, None when they are wrong; either way the log is opened anew."""
    try:
        new = reload()
        set_up(file=new.log.file, form=new.log.format, level=new.log.level)
    except ConfigError as error:
        _refused(error, settings)
        return None
    if new.http.listen != settings.http.listen:
        _log.warning("http.listen has changed: that takes a restart")
    return new


def _refused(error: ConfigError, kept: Settings) -> None:
    set_up(file=kept.log.file, form=kept.log.format, level=kept.log.level)
    for mistake in error.mistakes:
        _log.error("the configuration is not taken over: %s", mistake)


async def _watch(built: Parts, asked: asyncio.Queue[Asked]) -> Asked:
    """Keep what has to run for ever running; return what is asked for, raise what ends any of it."""
    forever = [
        asyncio.create_task(_sweep(built), name="sweep"),
        asyncio.create_task(_checkpoint(built), name="checkpoint"),
        asyncio.create_task(built.queue.watch(HEALTH_S), name="queue"),
        asyncio.create_task(_watch_accounts(built, asked), name="accounts"),
        asyncio.create_task(built.renew_worker.run(), name="tokens"),
        asyncio.create_task(built.fetch_worker.run(), name="recordings"),
        asyncio.create_task(built.retention.run(), name="retention"),
        asyncio.create_task(built.attribute_worker.run(), name="extensions"),
        asyncio.create_task(built.catch_up_worker.run(), name="catching up"),
        asyncio.create_task(built.cdr_worker.run(), name="CDR files"),
        asyncio.create_task(built.error_files_worker.run(), name="error files"),
        asyncio.create_task(_tell_watchdog(built), name="watchdog"),
    ]
    if built.converter is not None:
        forever.append(asyncio.create_task(built.converter.run(), name="conversion"))
    waiting = asyncio.create_task(asked.get(), name="signals")
    try:
        done, _ = await asyncio.wait({*forever, waiting}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task is not waiting:
                task.result()
        return waiting.result()
    finally:
        for task in (*forever, waiting):
            task.cancel()
        await asyncio.gather(*forever, waiting, return_exceptions=True)


async def _sweep(built: Parts) -> None:
    """Ring for every due call that nobody holds: at the start, and for rings and times to come ever after."""
    loop = asyncio.get_running_loop()
    ran_at = await built.calls.newest_arrival()
    began = loop.time()
    while True:
        try:
            # What the clock should show at least, had nobody set it back; at the start, since the last call.
            if built.clock.now() < ran_at + loop.time() - began - SET_BACK_S:
                number = await built.calls.clock_was_set_back(
                    built.clock.now(), built.timing.lease, built.settings.policy.doubt_wait
                )
                _log.warning("the clock was set back: %d waiting call(s) are looked at again", number)
            ran_at, began = built.clock.now(), loop.time()
            await built.worker.sweep()
        except StorageError as error:
            _log.error("the ledger cannot be swept: %s", error)
        await asyncio.sleep(SWEEP_S)


async def _watch_accounts(built: Parts, asked: asyncio.Queue[Asked]) -> None:
    """Ask to be built anew once accounts, extensions or VoIP tokens change, in whatever process."""
    while True:
        await asyncio.sleep(SWEEP_S)
        with contextlib.suppress(StorageError):
            if await built.accounts.revision() != built.directory.revision:
                asked.put_nowait(Asked.REBUILD)
                await asyncio.Event().wait()


async def _checkpoint(built: Parts) -> None:
    """Spare the writer the moving of pages, which would hold up whoever waits for a commit."""
    while True:
        try:
            await built.database.checkpoint()
        except StorageError as error:
            _log.error("%s", error)
        await asyncio.sleep(CHECKPOINT_S)


async def _tell_watchdog(built: Parts) -> None:
    """Tell systemd that the daemon is alive, after each real look into the ledger."""
    every_s = watchdog_s()
    while every_s is not None:
        with contextlib.suppress(StorageError):
            await built.database.ping()
            notify("WATCHDOG=1")
        await asyncio.sleep(every_s / 2)
    await asyncio.Event().wait()


async def _listen(desk: Desk, listening: socket.socket) -> web.AppRunner:
    runner = web.AppRunner(
        make_app(desk),
        access_log=None,
        shutdown_timeout=CLOSE_HTTP_S,
        keepalive_timeout=IDLE_S,
        auto_decompress=False,
    )
    await runner.setup()
    await web.SockSite(runner, listening, backlog=BACKLOG).start()
    return runner


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """Open the listening socket; raises ConfigError when the address cannot be had."""
    host, port = settings.http.listen
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"http.listen: cannot listen on {host}:{port}: {error.strerror or error}"
        ) from error
    listening.setblocking(False)
    with listening:
        yield listening


def _address(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
