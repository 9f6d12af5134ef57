"""What operators see: pages that run nothing, load nothing and are framed by nobody.

Whatever others wrote, ids and numbers and Kommo's words, is escaped where it is put in.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from http import HTTPStatus

from aiohttp import web

from calllogd.domain.call import Call, CallState
from calllogd.ports import Standing, Totals, Unmapped
from calllogd.voip.telling import UNMAPPED_MOST, meaning, moment, oldest_due_s, place, told, why

REFRESH_S = 10

_STYLE = """
:root { color-scheme: light dark; --line: #c9ced6; --soft: #f3f5f8; --dim: #555d69; --act: #0b57d0;
  --good: #10682f; --bad: #a8200d; --warn: #7a5200; }
@media (prefers-color-scheme: dark) { :root { --line: #454b55; --soft: #22262d; --dim: #a9b1bd;
  --act: #8ab4f8; --good: #7bd88f; --bad: #ff9a8b; --warn: #f2c14e; } }
* { box-sizing: border-box; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
header { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center;
  justify-content: space-between; }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .5rem 0; }
.dim { color: var(--dim); }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
caption { text-align: left; color: var(--dim); padding: .5rem .75rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .75rem; border-top: 1px solid var(--line); }
thead th { background: var(--soft); }
.id { overflow-wrap: anywhere; min-width: 8rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.time { white-space: nowrap; }
.good, .bad, .warn { font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
button, input { font: inherit; padding: .4rem .9rem; border-radius: .4rem; border: 1px solid var(--act); }
button { background: transparent; color: var(--act); cursor: pointer; min-height: 2.5rem; }
button:hover, button:focus-visible { background: var(--soft); }
:focus-visible { outline: 3px solid var(--act); outline-offset: 2px; }
input { display: block; width: 100%; max-width: 26rem; margin: .25rem 0 1rem; }
form { margin: 0; }
.below { margin: .75rem 0; }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; frame-ancestors 'none';"
        " base-uri 'none'"
    ),
    # Not no-referrer: with that, browsers do not say in Origin either whose page sent a form.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_COLOURS = {"logged": "good", "active": "good", "failed": "bad", "paused": "bad", "in_doubt": "warn"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the status page shows: `failed` and `newest` are calls, the newest first; `unmapped` are
    extensions that nobody has, those of the most calls first.

    `csrf` is what forms have to carry, None for whoever has no session and so gets no forms.
    """

    now: float
    totals: Totals
    standings: Sequence[Standing]
    unmapped: Sequence[Unmapped]
    failed: Sequence[Call]
    newest: Sequence[Call]
    csrf: str | None


def login_page(trouble: str | None = None, *, status: int = HTTPStatus.OK) -> web.Response:
    """Return the page on which an operator shows his token; `trouble` is why he has to do it again."""
    said = "" if trouble is None else f'<p class="bad" role="alert">{escape(trouble)}</p>'
    body = (
        f"<header><h1>calllogd</h1></header><main><h2>Log in</h2>{said}"
        '<form method="post" action="/login"><label for="token">Admin token</label>'
        '<input id="token" name="token" type="password" autocomplete="current-password" required autofocus'
        ' aria-describedby="where"><button type="submit">Log in</button></form>'
        '<p class="dim" id="where">It is <code>admin.token</code> of calllogd\'s configuration.</p></main>'
    )
    return _page("Log in", body, status=status)


def status_page(seen: Overview) -> web.Response:
    """Return the page that shows how everything stands."""
    out = _form("/logout", seen.csrf, "Log out") if seen.csrf is not None else ""
    body = (
        f'<header><h1>calllogd</h1><p class="dim">{escape(moment(seen.now))}, anew every {REFRESH_S} s</p>'
        f"{out}</header>"
        f"<main>{_states(seen)}{_accounts(seen)}{_unmapped(seen)}{_failed(seen)}{_newest(seen)}</main>"
    )
    refresh = f'<meta http-equiv="refresh" content="{REFRESH_S}">'
    return _page("Status", body, head=refresh)


def _states(seen: Overview) -> str:
    totals = seen.totals
    rows = [
        (_state(state.value), _number(totals.states.get(state, 0)), escape(meaning(state)))
        for state in CallState
    ]
    queue = (
        f"<p>{totals.queued} ring(s) in the queue; {totals.due} call(s) due, the oldest for"
        f" {oldest_due_s(totals, seen.now):.0f} s.</p>"
    )
    table = _table("Calls by their state", ("State", "Calls", "Meaning"), rows)
    return f'<section aria-labelledby="calls"><h2 id="calls">Calls</h2>{queue}{table}</section>'


def _accounts(seen: Overview) -> str:
    rows = [
        (
            _state(one.state.value),
            _id(one.account_id, one.name),
            escape(one.reason or "—"),
            _time(one.token_until) if one.token_until is not None else "—",
        )
        for one in seen.standings
    ]
    columns = ("State", "Account", "Reason", "Token good until")
    table = _table("Kommo accounts", columns, rows) if rows else "<p>There is none.</p>"
    return f'<section aria-labelledby="accounts"><h2 id="accounts">Accounts</h2>{table}</section>'


def _unmapped(seen: Overview) -> str:
    shown = seen.unmapped[:UNMAPPED_MOST]
    if not shown:
        return ""
    rows = [(_id(one.extension, f"account {one.account_id}"), _number(one.calls)) for one in shown]
    caption = f"{len(rows)} of {len(seen.unmapped)}, with their calls of the last 30 days"
    table = _table(caption, ("Extension", "Calls"), rows)
    return (
        '<section aria-labelledby="unmapped"><h2 id="unmapped">Extensions that nobody has</h2>'
        "<p>Calls of the last 30 days get their user when one is given the extension, in the widget or in the"
        f" configuration.</p>{table}</section>"
    )


def _failed(seen: Overview) -> str:
    number = seen.totals.states.get(CallState.FAILED, 0)
    if not seen.failed:
        content = "<p>None.</p>"
    else:
        rows = [
            (_call(call), _time(call.started_at), escape(told(call)), escape(why(call)), _retry(seen, call))
            for call in seen.failed
        ]
        caption = f"The newest {len(rows)} of {number}, and why"
        content = _table(caption, ("Call", "Started", "What is known", "Reason", "Try again"), rows)
        if seen.csrf is not None:
            content += f'<div class="below">{_form("/retry", seen.csrf, f"Retry all {number}")}</div>'
    return f'<section aria-labelledby="failed"><h2 id="failed">Failed calls</h2>{content}</section>'


def _newest(seen: Overview) -> str:
    rows = [
        (
            _state(call.state.value),
            _call(call),
            _time(call.started_at),
            escape(told(call)),
            escape(place(call.entry)),
        )
        for call in seen.newest
    ]
    columns = ("State", "Call", "Started", "What is known", "Stands on")
    table = _table(f"The newest {len(rows)}", columns, rows) if rows else "<p>None yet.</p>"
    return f'<section aria-labelledby="newest"><h2 id="newest">Newest calls</h2>{table}</section>'


def _retry(seen: Overview, call: Call) -> str:
    if seen.csrf is None:
        return "—"
    fields = {"account_id": str(call.key.account_id), "call_id": call.key.call_id}
    label = f"Retry call {call.key.call_id} of account {call.key.account_id}"
    return _form("/retry", seen.csrf, "Retry", label=label, fields=fields)


def _form(
    action: str, csrf: str, words: str, *, label: str | None = None, fields: dict[str, str] | None = None
) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in {**(fields or {}), "csrf": csrf}.items()
    )
    named = "" if label is None else f' aria-label="{escape(label)}"'
    return (
        f'<form method="post" action="{escape(action)}">{hidden}'
        f'<button type="submit"{named}>{escape(words)}</button></form>'
    )


def _table(caption: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; its cells are HTML."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    # What can be scrolled has to be reached by the keyboard.
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _state(word: str) -> str:
    return f'<span class="{_COLOURS.get(word, "dim")}">{escape(word)}</span>'


def _call(call: Call) -> str:
    return _id(call.key.call_id, f"account {call.key.account_id}")


def _id(name: object, more: str) -> str:
    return f'<div class="id">{escape(str(name))}<br><span class="dim">{escape(more)}</span></div>'


def _number(number: int) -> str:
    return f'<div class="number">{number}</div>'


def _time(seconds: float | None) -> str:
    return f'<span class="time">{escape(moment(seconds))}</span>'


def _page(title: str, body: str, *, head: str = "", status: int = HTTPStatus.OK) -> web.Response:
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} - calllogd</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{head}<style>{_STYLE}</style>'
        f"</head><body>{body}</body></html>\n"
    )
    return web.Response(status=status, text=text, content_type="text/html", headers=_HEADERS)
