"""`calllogd import`: calls of the past, from a VoIP service's list or from files that it left."""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from calllogd.config import Settings
from calllogd.console.accounts import accounts_of, providers_of
from calllogd.console.exits import EX_FAILED, EX_OK, EX_TEMPFAIL, EX_USAGE
from calllogd.console.ledger import Ledger, ledger
from calllogd.console.parts import LISTING_BYTES, SystemClock
from calllogd.console.words import out
from calllogd.database.caught_up import LedgerOfCaughtUp, Range
from calllogd.errors import InputRefused
from calllogd.recordings.outside import Outside
from calllogd.voip.cdr import complete_records
from calllogd.voip.errand import ErrandFailed, ListsCalls
from calllogd.voip.provider import LeavesRecords, NotUnderstood, Provider, left
from calllogd.voip.usecase.catch_up import CatchUpUseCase, windows
from calllogd.voip.usecase.save_call_event import message_of

TRIES = 5
WAIT_S = 15.0
"""Waited after a failed try, unless the service names a time."""

DAY_S = 86_400.0
PIECE_BYTES = 96 * 1024

Advance = Callable[[float], None]


class _Source(NamedTuple):
    account_id: int
    name: str
    provider: Provider


async def import_calls(settings: Settings, arguments: argparse.Namespace) -> int:
    """Take calls of the past, through the door through which VoIP services tell them: nothing doubles."""
    async with ledger(settings) as book:
        await book.keys.open()
        directory = await book.accounts.directory()
        providers = providers_of(accounts_of(settings, directory), directory)
        sources = [
            _Source(int(account_id), name, provider)
            for (name, account_id), provider in sorted(providers.items())
            if arguments.service in (None, name) and arguments.account in (None, int(account_id))
        ]
        if arguments.file:
            return await _from_files(book, sources, arguments.file)
        return await _from_lists(settings, book, sources, arguments)


async def _from_lists(
    settings: Settings, book: Ledger, sources: Sequence[_Source], arguments: argparse.Namespace
) -> int:
    found = [
        (source, source.provider)
        for source in sources
        if isinstance(source.provider, ListsCalls) and source.provider.lists_calls
    ]
    if not found:
        sys.stderr.write(
            "calllogd: no VoIP service is configured that lists its calls; for files there is --file\n"
        )
        return EX_USAGE
    outside = Outside(settings.recordings.allow_private, answer_bytes=LISTING_BYTES)
    await outside.open()
    try:
        use_case = CatchUpUseCase(calls=book.calls, asker=outside, clock=SystemClock())
        codes = [await _from_list(book, source, lists, use_case, arguments) for source, lists in found]
    finally:
        await outside.close()
    return max(codes)


async def _from_list(
    book: Ledger, source: _Source, lists: ListsCalls, use_case: CatchUpUseCase, arguments: argparse.Namespace
) -> int:
    marks = LedgerOfCaughtUp(book.database)
    asked, reached = await _range(marks, source, arguments)
    told = new = 0
    with _progress(f"{source.name}, account {source.account_id}", asked.until - asked.since) as advance:
        advance(reached - asked.since)
        for since, until in windows(reached, asked.until):
            try:
                numbers = await _asked(use_case, source.name, lists, since, until)
            except ErrandFailed as error:
                sys.stderr.write(
                    f"calllogd: {source.name} cannot be asked: {error}."
                    f" What came until {_shown(since)} is kept; the same command goes on from there.\n"
                )
                return EX_TEMPFAIL
            told, new = told + numbers[0], new + numbers[1]
            await marks.came_to(asked, until)
            advance(until - since)
    out(f"{source.name}, account {source.account_id}: {told} call(s), something new of {new}.")
    return EX_OK


async def _range(
    marks: LedgerOfCaughtUp, source: _Source, arguments: argparse.Namespace
) -> tuple[Range, float]:
    """Return what is to be imported, and how far that has come by an earlier try."""
    if arguments.restart:
        await marks.give_up(source.account_id, source.name)
    unfinished = await marks.unfinished(source.account_id, source.name)
    if unfinished is not None:
        out(f"Going on with what broke off at {_shown(unfinished[1])}; --restart begins anew.")
        return unfinished
    until = time.time() if arguments.until is None else arguments.until
    since = until - DAY_S if arguments.since is None else arguments.since
    return Range(source.account_id, source.name, since, until), since


async def _asked(
    use_case: CatchUpUseCase, name: str, lists: ListsCalls, since: float, until: float
) -> tuple[int, int]:
    """Ask for a day's calls, again if need be; raises ErrandFailed."""
    for _ in range(TRIES - 1):
        try:
            return await use_case.execute(name, lists, since, until)
        except ErrandFailed as error:
            if error.is_final:
                raise
            await asyncio.sleep(error.retry_after_s or WAIT_S)
    return await use_case.execute(name, lists, since, until)


async def _from_files(book: Ledger, sources: Sequence[_Source], files: Sequence[Path]) -> int:
    able = [(source, source.provider) for source in sources if isinstance(source.provider, LeavesRecords)]
    if len(able) != 1:
        sys.stderr.write("calllogd: name the one service, and with --account the account, that they are of\n")
        return EX_USAGE
    ((source, reader),) = able
    told = unread = 0
    try:
        with _progress(
            f"{source.name}, account {source.account_id}", sum(one.stat().st_size for one in files)
        ) as advance:
            for file in files:
                for records, read_bytes in _pieces(file):
                    numbers = await _taken(book, source, reader, records)
                    told, unread = told + numbers[0], unread + numbers[1]
                    advance(read_bytes)
    except OSError as error:
        sys.stderr.write(f"calllogd: {error.filename}: {error.strerror}\n")
        return EX_FAILED
    kept = f", {unread} not understood and kept" if unread else ""
    out(f"{source.name}, account {source.account_id}: {told} record(s) taken{kept}.")
    return EX_FAILED if unread else EX_OK


def _pieces(file: Path) -> Iterator[tuple[Sequence[bytes], int]]:
    """Yield a file's records, many at a time, and how many bytes they are."""
    if file.suffix == ".json":
        content = file.read_bytes()
        yield [content], len(content)
        return
    with file.open("rb") as opened:
        rest = b""
        while piece := opened.read(PIECE_BYTES):
            records, rest = complete_records(rest + piece)
            yield records, len(piece)
        if rest.strip():
            yield [rest], 0


async def _taken(
    book: Ledger, source: _Source, reader: LeavesRecords, records: Sequence[bytes]
) -> tuple[int, int]:
    """Take records; return how many were understood, and how many not."""
    messages, unread, now = [], 0, time.time()
    for record in records:
        try:
            told = reader.told_of(record, now)
        except (NotUnderstood, InputRefused) as error:
            await book.unread.keep(source.account_id, source.name, left(record), str(error), now)
            unread += 1
        else:
            messages += [message_of(source.name, one, record) for one in told]
    await book.calls.accept_all(messages, now)
    return len(records) - unread, unread


@contextmanager
def _progress(title: str, whole: float) -> Iterator[Advance]:
    """Show on a terminal how far it has come; yields what tells of further progress."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=whole)
        yield lambda amount: progress.advance(task, amount)


def _shown(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M %Z")
