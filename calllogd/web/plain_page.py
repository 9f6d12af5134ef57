"""A page of a few words for people, which runs nothing, loads nothing and is framed by nobody."""

import base64
import hashlib
from http import HTTPStatus

from aiohttp import web

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;"
    "color-scheme:light dark}code{overflow-wrap:anywhere}li{margin:.5rem 0}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}


def page(title: str, body: str, *, status: int = HTTPStatus.OK) -> web.Response:
    """Return the page; `body` is HTML, and whatever others wrote in it is escaped already."""
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} - calllogd</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1>{body}</body></html>\n"
    )
    return web.Response(status=status, text=text, content_type="text/html", headers=_HEADERS)


def wants_page(request: web.Request) -> bool:
    """Tell whether a person's browser asks, and not a program."""
    return "text/html" in request.headers.get("Accept", "")
