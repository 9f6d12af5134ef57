"""How the commands print: lines, JSON, tables."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from calllogd.voip.telling import place

__all__ = ["PIPE_WIDTH", "out", "out_json", "place", "table"]

PIPE_WIDTH = 160


def out(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")


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
        cells = [escape(str(cell)) for cell in row]
        printed.add_row(*cells, style=styles.get(str(row[0])))
    # A pipe has no width; a narrow default would tear the columns apart for whoever greps them.
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    Console(width=None if known else PIPE_WIDTH).print(printed)
