"""Transactions that many requests share: what goes into one, and how it is committed."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from calllogd.errors import StorageError

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")
Unit = Callable[[sqlite3.Connection], T]
"""A piece of work inside a transaction. It may be run again after a rollback, so it touches nothing else."""

LEAST, MOST = 32, 500
"""Writes in one transaction: all that wait if they are few, else half of them, up to a limit."""


@dataclass(frozen=True, slots=True)
class Together(Generic[Item, Result]):
    """Work that is done for many items by few statements.

    `work` returns one result for each item; like a unit it may be run again. `after` is called on the loop
    with all items and results of a transaction once it is on disk. `at_once`, if given, does the usual work
    with one statement, which needs no transaction around it; it raises, having done nothing, when the work is
    not of the usual kind.
    """

    work: Callable[[sqlite3.Connection, Sequence[Item]], Sequence[Result]]
    after: Callable[[Sequence[Item], Sequence[Result]], None]
    at_once: Callable[[sqlite3.Connection, Sequence[Item]], Sequence[Result]] | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """An item that is to be written, and the future of its result."""

    together: Together[Any, Any]
    item: Any
    done: "asyncio.Future[Any]"


ALONE: Together[Unit[Any], Any] = Together(
    lambda connection, units: [unit(connection) for unit in units], lambda units, results: None
)
"""Units, which have nothing in common: each is worked on by itself."""


def commit(connection: sqlite3.Connection, batch: Sequence[Waiting]) -> list[Any]:
    """Write a batch in one transaction; return each item's result, or the exception that left it out.

    Raises sqlite3.Error when the file cannot be written, and then nothing is.
    """
    groups = _grouped(batch)
    if len(groups) == 1 and batch[0].together.at_once is not None:
        try:
            return list(batch[0].together.at_once(connection, [waiting.item for waiting in batch]))
        except Exception as error:
            if _is_of_the_file(error):
                raise
    failed: dict[int, Exception] = {}
    while (results := _attempt(connection, batch, groups, failed)) is None:
        pass
    return results


def _attempt(
    connection: sqlite3.Connection,
    batch: Sequence[Waiting],
    groups: list[list[int]],
    failed: dict[int, Exception],
) -> list[Any] | None:
    """Return the results of a transaction; None if a group failed by itself and was left out of `groups`."""
    results: list[Any] = [failed.get(place) for place in range(len(batch))]
    group: list[int] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for group in groups:
            items = [batch[place].item for place in group]
            for place, result in zip(group, batch[group[0]].together.work(connection, items), strict=True):
                results[place] = result
        group = []
        connection.execute("COMMIT")
    except Exception as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if not group or _is_of_the_file(error):
            raise
        groups.remove(group)
        if len(group) > 1:
            groups.extend([place] for place in group)
        else:
            failed[group[0]] = error
        return None
    return results


def share(waiting: int) -> int:
    """Return how many of the waiting writes the next transaction takes.

    Not all: while a half is being written, those of the half before are answered and send more. Taken all
    together they would go on in step, and the loop and the disk would wait for each other by turns.
    """
    return min(waiting, max(LEAST, min(MOST, waiting // 2)))


def _is_of_the_file(error: Exception) -> bool:
    """Tell whether an error says that the file cannot be used, rather than what was to be written."""
    return isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError)


def _grouped(batch: Sequence[Waiting]) -> list[list[int]]:
    """Return the places of a batch that are worked on together; units are worked on alone."""
    groups: list[list[int]] = []
    kinds: dict[int, list[int]] = {}
    for place, waiting in enumerate(batch):
        if waiting.together is ALONE or id(waiting.together) not in kinds:
            groups.append([place])
            kinds[id(waiting.together)] = groups[-1]
        else:
            kinds[id(waiting.together)].append(place)
    return groups


def settle(batch: Sequence[Waiting], results: Sequence[Any] | StorageError) -> None:
    """Give everyone who waits his result, and tell the kinds of work what was stored."""
    every = [results] * len(batch) if isinstance(results, StorageError) else results
    stored: dict[int, tuple[Together[Any, Any], list[Any], list[Any]]] = {}
    for waiting, result in zip(batch, every, strict=True):
        if not isinstance(result, Exception):
            _, items, kept = stored.setdefault(id(waiting.together), (waiting.together, [], []))
            items.append(waiting.item)
            kept.append(result)
        if waiting.done.done():
            continue  # whoever asked has gone
        if isinstance(result, Exception):
            waiting.done.set_exception(result)
        else:
            waiting.done.set_result(result)
    for together, items, kept in stored.values():
        together.after(items, kept)
