"""The command line."""

import sys
from pathlib import Path
from calllogd.config import load
from calllogd.console.serve import serve
from calllogd.log import set_up


def main() -> int:
    p = Path(sys.argv[1])
    s = load(p)
    set_up(file=s.log.file, form=s.log.format, level=s.log.level)
    serve(s, lambda: load(p))
    return 0
