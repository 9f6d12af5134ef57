"""Play seeds and tell of the first that breaks a promise.

python -m tests.simulation.run --seeds 1000000 --jobs 2
python -m tests.simulation.run --seed 4711 --story
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from calllogd.domain.plan import IncomingLeads
from tests.simulation.kommo import Broken
from tests.simulation.ledger import Ledger, MemoryLedger, SqliteLedger
from tests.simulation.loop import Restless
from tests.simulation.promises import broken, place
from tests.simulation.story import Story, draw, plain
from tests.simulation.world import World

LEDGERS: dict[str, Callable[[], Ledger]] = {"memory": MemoryLedger, "sqlite": SqliteLedger}

CHUNK = 250


@dataclass(frozen=True, slots=True)
class Finding:
    """A seed whose story breaks promises."""

    seed: int
    words: tuple[str, ...]


def check(seed: int, ledger: Callable[[], Ledger] = MemoryLedger) -> Finding | None:
    """Play a seed; return what it breaks, None if nothing."""
    story = draw(seed)
    words = _played(World(story, ledger=ledger))[1]
    if not words and seed % 4 == 0:
        words = _differs(story, ledger)
    return Finding(seed, tuple(words)) if words else None


def tell(seed: int, ledger: Callable[[], Ledger] = MemoryLedger) -> str:
    """Return a seed's whole story, and how to play it again."""
    story = draw(seed)
    world, words = _played(World(story, ledger=ledger, telling=True))
    words = words or _differs(story, ledger)
    lines = [f"seed {seed}: {_circumstances(story)}", *(world.lines or ())]
    lines += [f"==> {word}" for word in words] or ["==> every promise holds"]
    lines.append(f"again: python -m tests.simulation.run --seed {seed} --story")
    return "\n".join(lines)


def told_of(story: Story) -> str:
    """Return what happens in a story."""
    world, words = _played(World(story, telling=True))
    return "\n".join([*(world.lines or ()), *(f"==> {word}" for word in words)])


def check_all(seeds: Iterable[int], ledger: str = "memory") -> list[Finding]:
    """Play seeds, one after another; return those that break something."""
    return [finding for seed in seeds if (finding := check(seed, LEDGERS[ledger])) is not None]


def check_beside(first: int, count: int, jobs: int, ledger: str) -> Iterator[tuple[int, list[Finding]]]:
    """Play seeds in several processes; yield how many have been played, and what was found among the last."""
    chunks = [range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)]
    played = 0
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for chunk, findings in zip(chunks, pool.map(check_all, chunks, [ledger] * len(chunks)), strict=True):
            played += len(chunk)
            yield played, findings


def _played(world: World) -> tuple[World, list[str]]:
    try:
        world.play()
    except (Broken, Restless) as error:
        return world, [str(error)]
    except Exception as error:  # noqa: BLE001  whatever the use case stumbles over is a finding
        return world, [f"P6: the use case stumbles: {error!r}"]
    return world, broken(world)


def _differs(story: Story, ledger: Callable[[], Ledger]) -> list[str]:
    """Return in which calls the story ends otherwise than if the same had been said in order, without faults.

    People make a difference, so does a manager who takes a call away to where its number is from then on, and
    so does the time where some calls become incoming leads and others only join them.
    """
    everybody = story.policy.incoming_leads is IncomingLeads.ALL
    if story.has_people or not everybody or any(call.entity_chosen for call in story.calls):
        return []
    world, plainly = World(story, ledger=ledger), World(plain(story), ledger=ledger)
    words = [*_played(world)[1], *_played(plainly)[1]]
    for script in story.calls:
        one, other = world.ledger.get(script.key), plainly.ledger.get(script.key)
        if words or one is None or other is None:
            break
        if place(world, one) != place(plainly, other):
            words.append(
                f"{script.key.call_id} ends at {place(world, one)}, in plain order at {place(plainly, other)}"
            )
    return words


def _circumstances(story: Story) -> str:
    facts = {
        name: getattr(story, name)
        for name in Story.__slots__
        if name not in ("seed", "calls") and getattr(story, name) not in ((), 0.0, False)
    }
    return ", ".join(f"{name}={value}" for name, value in facts.items())


def main() -> int:
    """Play what the command line asks for; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--seeds", type=int, default=20_000, metavar="N", help="how many (default %(default)s)"
    )
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them (default 0)")
    parser.add_argument("--seed", type=int, metavar="SEED", help="play this one alone")
    parser.add_argument("--story", action="store_true", help="tell what happens in it")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes (default %(default)s)")
    parser.add_argument("--ledger", choices=sorted(LEDGERS), default="memory", help="which ledger")
    parser.add_argument("--all", action="store_true", help="go on after the first broken promise")
    chosen = parser.parse_args()
    if chosen.seed is not None:
        finding = check(chosen.seed, LEDGERS[chosen.ledger])
        say = tell(chosen.seed, LEDGERS[chosen.ledger]) if chosen.story or finding else "every promise holds"
        sys.stdout.write(say + "\n")
        return 0 if finding is None else 1
    begun, found = time.monotonic(), 0
    for played, findings in check_beside(chosen.first, chosen.seeds, chosen.jobs, chosen.ledger):
        seconds = time.monotonic() - begun
        for finding in findings:
            sys.stdout.write(f"\rseed {finding.seed}: {finding.words[0][:200]}\n")
        found += len(findings)
        pace = f"{played / seconds / chosen.jobs:.0f} a second and core"
        sys.stdout.write(f"\r{played} of {chosen.seeds} seeds, {found} broken, {pace}")
        sys.stdout.flush()
        if found and not chosen.all:
            sys.stdout.write("\n" + tell(findings[0].seed, LEDGERS[chosen.ledger]) + "\n")
            return 1
    sys.stdout.write("\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
