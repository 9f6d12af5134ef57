"""Who takes part in a scene, and from when to when: what services tell leg by leg."""

from collections.abc import Sequence
from typing import NamedTuple

from calllogd.voip.simulation import Kind, Scene


class Part(NamedTuple):
    """A connection of somebody of the company, or of the client, who has no extension.

    `answered_at` is None if nobody did. `number` tells the connections of a scene apart.
    """

    number: int
    extension: str | None
    started_at: float
    answered_at: float | None
    ended_at: float

    @property
    def talk(self) -> int:
        """Seconds of talk."""
        return 0 if self.answered_at is None else round(self.ended_at - self.answered_at)


def client_of(scene: Scene) -> Part:
    """Return the client's connection.

    He who calls is connected with the system before anybody talks to him, and even if nobody does.
    """
    start, answered_at = scene.started_at, scene.answered_at
    if scene.kind is not Kind.OUTBOUND:
        answered_at = min(start + 1, answered_at)
    return Part(0, None, start, answered_at, scene.ended_at)


def staff_of(scene: Scene) -> Sequence[Part]:
    """Return the connections of the company's people, in the order in which they begin."""
    first, second = scene.extensions[:2]
    start, answered_at, ended_at = scene.started_at, scene.answered_at, scene.ended_at
    match scene.kind:
        case Kind.OUTBOUND:
            return [Part(1, first, start, start, ended_at)]
        case Kind.MISSED:
            return [Part(1, first, start, None, ended_at)]
        case Kind.RING_GROUP:
            return [
                Part(number, one, start, answered_at, ended_at)
                if one == second
                else Part(number, one, start, None, answered_at)
                for number, one in enumerate(scene.extensions, start=1)
            ]
        case Kind.TRANSFER:
            over_at = answered_at + scene.talk // 2
            return [
                Part(1, first, start, answered_at, over_at),
                Part(2, second, over_at, over_at, ended_at),
            ]
        case _:
            return [Part(1, first, start, answered_at, ended_at)]
