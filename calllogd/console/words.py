"""How the commands print: lines, JSON, tables."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from calllogd.voip.telling import place

__all__ = ["PIPE_WIDTH", "out", "out_json", "place", "table"]

PIPE_WIDTH = 160

# VoIP services put anything into their names and ids.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def out(text: str) -> None:
    """Print a line; what would move the cursor or change a terminal's colours is shown as what it is."""
    sys.stdout.write(_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text) + "\n")


def out_json(value: Any) -> None:
    """Print one JSON object on one line."""
    out(json.dumps(value, ensure_ascii=False))


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], styles: Mapping[str, str] = {}
) -> None:
    """Print a table, in colours on a terminal."""
    from rich.console import Console  # noqa: PLC0415  the daemon has no use for rich's memory
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    printed = Table(title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        printed.add_column(column, overflow="fold")
    for row in rows:
        cells = [escape(_CONTROL.sub("�", str(cell))) for cell in row]
        printed.add_row(*cells, style=styles.get(str(row[0])))
    # A pipe has no width; a narrow default would tear the columns apart for whoever greps them.
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    Console(width=None if known else PIPE_WIDTH).print(printed)
