"""Errors as the world sees them: problem documents (RFC 9457), one table of all codes."""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web

from calllogd.errors import InputRefused, Overloaded, StorageError
from calllogd.web.client_address import client_address
from calllogd.web.desk import DESK_KEY
from calllogd.web.limits import TooMany

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(NamedTuple):
    """An error code's HTTP status, and what it means."""

    status: int
    title: str


PROBLEMS = {
    "malformed": Problem(400, "The body is not what it should be"),
    "unauthorized": Problem(401, "The sender did not show who he is"),
    "forbidden": Problem(403, "This page or user may not do this"),
    "not_found": Problem(404, "There is nothing at this address"),
    "method_not_allowed": Problem(405, "This address does not take this method"),
    "slow": Problem(408, "The body did not come in time"),
    "conflict": Problem(409, "Something newer is stored"),
    "changed": Problem(412, "What the request is about has changed"),
    "too_large": Problem(413, "The body is too large"),
    "unsupported_media": Problem(415, "The body is no recording"),
    "unsatisfiable": Problem(416, "The range lies behind the end"),
    "invalid": Problem(422, "A field is missing or wrong"),
    "too_many": Problem(429, "More is coming from this sender than is taken"),
    "bad_request": Problem(400, "The request cannot be understood"),
    "internal": Problem(500, "calllogd made a mistake, which is in its log"),
    "overloaded": Problem(503, "More is coming in than can be stored"),
    "storage": Problem(503, "The ledger cannot be written now"),
    "not_ready": Problem(503, "calllogd cannot work now"),
}
"""Every code a problem document can have."""

STORAGE_RETRY_S = 5

UNLIMITED = "/healthz"
"""Whether the process is alive is told even to those of whom too much comes."""

_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 408: "slow", 413: "too_large"}


def problem(
    code: str,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> web.Response:
    """Return the problem document of a code, with `more` members for the sender to act upon."""
    status, title = PROBLEMS[code]
    body = {
        "type": f"urn:calllogd:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        **(more or {}),
    }
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/problem+json",
        headers=headers,
    )


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error of a handler into a problem document, and keep senders within their limits."""
    answer = await _answered(request, handler)
    limits = request.app[DESK_KEY].limits
    if answer.status == HTTPStatus.UNAUTHORIZED and limits is not None:
        limits.blame(client_address(request, request.app[DESK_KEY].trusted_proxies))
    return answer


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        desk = request.app[DESK_KEY]
        if desk.limits is not None and request.path != UNLIMITED:
            desk.limits.admit_address(client_address(request, desk.trusted_proxies))
        return await handler(request)
    except TooMany as error:
        return problem(error.code, error.detail, headers={"Retry-After": str(error.retry_after_s)})
    except InputRefused as error:
        headers = {"WWW-Authenticate": error.challenge} if error.code == "unauthorized" else None
        return problem(error.code, error.detail, headers=headers)
    except Overloaded as error:
        return problem("overloaded", str(error), headers={"Retry-After": str(error.retry_after_s)})
    except StorageError as error:
        _log.error("%s", error)
        return problem("storage", "come again later", headers={"Retry-After": str(STORAGE_RETRY_S)})
    except web.HTTPException as error:
        code = _BY_STATUS.get(error.status, "bad_request")
        kept = {name: value for name, value in error.headers.items() if name == "Allow"}
        return problem(code, error.reason, headers=kept)
    except Exception:  # noqa: BLE001  the sender gets an answer whatever our mistake is
        _log.exception("a request failed by a mistake of ours")
        return problem("internal", "the request may be sent again")
