"""Time that is only a number, and coroutines driven by hand: nothing runs beside anything else.

What the daemon's code awaits comes down to `pause`. So whoever drives it decides after every await how
long it takes, who goes on next, and whether the process is killed there.
"""

import heapq
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from random import Random
from typing import Any, TypeVar, cast

T = TypeVar("T")
Work = Coroutine[Any, Any, None]

STEPS = 40_000
"""A story with more steps than this does not come to rest."""


class Restless(Exception):
    """The world does not come to rest."""


@types.coroutine
def pause(seconds: float) -> Generator[float, None, None]:
    """Wait; until then others go on."""
    yield seconds


class Actor:
    """A coroutine of a process, and what is done once it has ended."""

    __slots__ = ("_done", "_loop", "_work", "process")

    def __init__(
        self, loop: "Loop", process: int, work: Work, done: Callable[[BaseException | None], None]
    ) -> None:
        self._loop = loop
        self._work: Work | None = work
        self._done = done
        self.process = process

    def __call__(self) -> None:
        """Go on until the next pause."""
        if self._work is None:
            return
        try:
            seconds = self._work.send(None)
        except StopIteration:
            self._end(None)
        except Exception as error:  # noqa: BLE001  whoever started it judges
            self._end(error)
        else:
            self._loop.after(seconds, self)

    def kill(self) -> None:
        """End it where it stands, as kill -9 does: nothing more of what it is at reaches the world."""
        work, self._work = self._work, None
        if work is not None:
            with suppress(RuntimeError):  # it awaited something on its way out, which never got anywhere
                work.close()

    def _end(self, error: BaseException | None) -> None:
        self._work = None
        self._loop.actors.remove(self)
        self._done(error)


class Loop:
    """What is to happen, by the virtual second in which it does."""

    def __init__(self, rng: Random, start: float) -> None:
        self.now = start
        self.rng = rng
        self.steps = 0
        self.actors: list[Actor] = []
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do something at a time."""
        self._count += 1
        heapq.heappush(self._coming, (when, self._count, act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something some time from now."""
        self._count += 1
        heapq.heappush(self._coming, (self.now + seconds, self._count, act))

    def start(self, process: int, work: Work, done: Callable[[BaseException | None], None]) -> Actor:
        """Let a process work; `done` gets what it stumbled over, None if it came to its end."""
        actor = Actor(self, process, work, done)
        self.actors.append(actor)
        self.after(0.0, actor)
        return actor

    def kill(self, process: int) -> None:
        """Kill a process with all it is at."""
        for actor in [actor for actor in self.actors if actor.process == process]:
            self.actors.remove(actor)
            actor.kill()

    def next_at(self) -> float | None:
        """Return when the next thing happens, None if nothing does any more."""
        return self._coming[0][0] if self._coming else None

    def step(self) -> None:
        """Let the next thing happen."""
        when, _, act = heapq.heappop(self._coming)
        self.now = max(self.now, when)
        self.steps += 1
        if self.steps > STEPS:
            raise Restless(f"no rest after {STEPS} steps")
        act()


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that never pauses."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    raise AssertionError("it pauses")
