"""`calllogd 3cx-template`: the file that makes 3CX tell of its calls."""

import argparse
import sys

from calllogd.config import Settings
from calllogd.console.exits import EX_OK
from calllogd.voip.threecx import template


async def threecx_template(settings: Settings, arguments: argparse.Namespace) -> int:
    """Print the template that is uploaded in 3CX."""
    sys.stdout.write(template(settings.http.public_url, arguments.account))
    return EX_OK
