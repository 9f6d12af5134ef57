"""Runs calllogd by a clock that shows what stands in a file: `-m tests.faults.with_a_clock FILE …`."""

import sys
from pathlib import Path

from calllogd.config import values
from calllogd.console.main import main
from calllogd.console.parts import SystemClock

if __name__ == "__main__":
    clock = Path(sys.argv[1])
    # Secrets of the vectors are shorter than those that calllogd takes.
    values.TOKEN_LEAST = 1
    SystemClock.now = lambda _: float(clock.read_text())  # type: ignore[method-assign, assignment]
    sys.exit(main(sys.argv[2:]))
