"""What is read out of Kommo's answers, whatever they are."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

BODY_BYTES = 4 * 1024 * 1024
"""An answer longer than this is not one of Kommo's."""

RETRY_AFTER_S = 1.0
LONGEST_RETRY_AFTER_S = 3600.0


async def json_object(response: aiohttp.ClientResponse) -> Mapping[str, Any] | None:
    """Return the JSON object of an answer, None if it is none."""
    raw = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        raw += chunk
        if len(raw) > BODY_BYTES:
            return None
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def retry_after_s(body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> float:
    """Return the seconds that Kommo asks to wait, at most an hour; one if it does not say."""
    for named in ((body or {}).get("retry_after"), headers.get("Retry-After")):
        try:
            seconds = float(str(named))
        except ValueError:
            continue
        if 0 < seconds < float("inf"):
            return min(seconds, LONGEST_RETRY_AFTER_S)
    return RETRY_AFTER_S


def said(body: Mapping[str, Any] | None) -> str:
    """Return Kommo's own words on a refusal, at most a few, for people to read."""
    words: list[str] = []
    for part in list_of((body or {}).get("validation-errors")):
        for error in list_of(part.get("errors")) if isinstance(part, dict) else ():
            if isinstance(error, dict):
                words.append(f"{error.get('path')}: {error.get('detail')}")
    for key in ("title", "detail", "hint"):
        if isinstance(word := (body or {}).get(key), str) and word not in words:
            words.append(word)
    return f": {'; '.join(words)[:300]}" if words else ""


def list_of(value: object) -> Sequence[Any]:
    """Return a list as it is, and nothing for whatever is none."""
    return value if isinstance(value, list) else ()


def plain(error: BaseException) -> str:
    """Return what an error says, or its name when it says nothing."""
    return str(error) or type(error).__name__
