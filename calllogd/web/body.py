"""The body of a request: how long it may be, and how long it may take."""

import asyncio

from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from calllogd.errors import InputRefused

BODY_BYTES = 64 * 1024
BODY_S = 10.0
"""How long a body may take to come."""


async def read_body(request: web.Request, *, within_s: float | None = None, most: int = BODY_BYTES) -> bytes:
    """Return the body, of `most` bytes.

    Raises InputRefused when it is compressed, breaks off, or takes longer than BODY_S, and
    HTTPRequestEntityTooLarge.
    """
    if "Content-Encoding" in request.headers:
        raise InputRefused("bad_request", "a compressed body is not taken")
    if request.content.is_eof():
        return await request.read()
    within_s = BODY_S if within_s is None else within_s
    try:
        async with asyncio.timeout(within_s):
            larger = request if most == BODY_BYTES else request.clone(client_max_size=most)
            return await larger.read()
    except TimeoutError:
        raise InputRefused("slow", f"the body did not come within {within_s:.0f} s") from None
    except (ClientError, HttpProcessingError, ConnectionError) as error:
        # Nobody may be there to read it; but it is no mistake of ours that an operator has to look at.
        raise InputRefused("bad_request", "the body did not come to its end") from error
