"""`python -m calllogd` is the command `calllogd`."""

import sys

from calllogd.console.main import main

if __name__ == "__main__":
    sys.exit(main())
