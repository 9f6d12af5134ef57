"""`calllogd simulate`: a call as a VoIP service would tell it, to a daemon that runs."""

import argparse
import asyncio
import os
import random
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
from yarl import URL

from calllogd.config import Settings
from calllogd.console.accounts import accounts_of
from calllogd.console.exits import EX_FAILED, EX_OK, EX_USAGE
from calllogd.console.ledger import Ledger, ledger
from calllogd.console.words import out
from calllogd.domain.call import CallKey, CallState
from calllogd.voip.provider import services
from calllogd.voip.simulation import COMPANY, Scene, Simulation, simulations
from calllogd.voip.telling import place, told
from calllogd.voip.webhook import Webhook

TIMEOUT_S = 30.0
FOLLOWED_S = 60.0
"""How long the call is followed until it stands in Kommo."""

ACCEPTED = range(200, 300)

EXTENSIONS_LEAST = 3

KEY = "CALLLOGD_SIMULATE_KEY"
"""Variable with the key of a service that signs with one that it alone has."""


async def simulate(settings: Settings, arguments: argparse.Namespace) -> int:
    """Post a call's messages to the daemon, and tell what becomes of it."""
    simulation = simulations().get(arguments.service)
    if simulation is None:
        return _refused(
            f"there is no simulation of {arguments.service}; there are {', '.join(simulations())}"
        )
    if len(arguments.extensions.split(",")) < EXTENSIONS_LEAST:
        return _refused("--extensions should name three, as in 101,102,103")
    if arguments.kind not in simulation.kinds:
        return _refused(f"{arguments.service} tells of {', '.join(sorted(simulation.kinds))} only")
    async with ledger(settings) as book:
        found = await _configured(settings, book, arguments.service, arguments.account)
        if found is None:
            one = "--account names one account that has it"
            return _refused(f"{arguments.service} is configured for no account, or for several: {one}")
        account_id, values = found
        scene = _scene(arguments)
        values = {**values, "private_key": os.environ.get(KEY)}
        try:
            sent = _messages(settings, arguments, account_id, values, (simulation, scene))
        except ValueError as error:
            return _refused(str(error))
        if not await _post(settings, sent):
            return EX_FAILED
        return await _follow(book, CallKey(account_id, simulation.call_id(scene)))


def _refused(reason: str) -> int:
    sys.stderr.write(f"calllogd: {reason}\n")
    return EX_USAGE


async def _configured(
    settings: Settings, book: Ledger, name: str, wanted: int | None
) -> tuple[int, Mapping[str, Any]] | None:
    """Return the account that has the service, and the service's settings; None unless there is just one."""
    await book.keys.open()
    directory = await book.accounts.directory()
    defaults = {key: setting.default for key, setting in services()[name].settings.items()}
    found: dict[int, Mapping[str, Any]] = {
        account_id: {**defaults, **account.voip[name]}
        for account_id, account in accounts_of(settings, directory).items()
        if name in account.voip
    }
    for one in directory.voip_tokens:
        if one.provider == name and one.until is None:
            known = found.get(one.account_id, defaults)
            found[one.account_id] = {**known, "token": known.get("token") or one.token}
    chosen = [account_id for account_id in found if wanted in (None, account_id)]
    return (chosen[0], found[chosen[0]]) if len(chosen) == 1 else None


def _scene(arguments: argparse.Namespace) -> Scene:
    ring_s, talk_s = 7, arguments.talk
    return Scene(
        kind=arguments.kind,
        id=secrets.token_hex(16),
        phone=arguments.phone,
        line=COMPANY,
        extensions=arguments.extensions.split(","),
        started_at=float(int(time.time()) - ring_s - talk_s),
        ring_s=ring_s,
        talk_s=talk_s,
        recording=arguments.recording,
    )


def _messages(
    settings: Settings,
    arguments: argparse.Namespace,
    account_id: int,
    values: Mapping[str, Any],
    play: tuple[Simulation, Scene],
) -> Sequence[Webhook]:
    """Return the messages in the order in which they are sent."""
    name, (simulation, scene) = arguments.service, play
    url = values.get("url") or f"{settings.http.public_url}/voip/{name}/{account_id}"
    sent = list(simulation.messages(scene, services()[name].address(url, values), values, time.time()))
    if arguments.twice:
        sent += sent
    if arguments.shuffle:
        random.shuffle(sent)
    host, port = settings.http.listen
    here = URL.build(scheme="http", host=host, port=port, path=f"/voip/{name}/{account_id}")
    return [
        Webhook(
            method=one.method,
            url=str(here) + one.url.removeprefix(url),
            headers=one.headers,
            body=one.body,
        )
        for one in sent
    ]


async def _post(settings: Settings, sent: Sequence[Webhook]) -> bool:
    """Post messages and tell what is answered; return whether all were taken."""
    taken = True
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        for one in sent:
            url = URL(one.url, encoded=True)
            try:
                async with session.request(one.method, url, headers=one.headers, data=one.body) as answer:
                    text = (await answer.text()).strip()
            except aiohttp.ClientError as error:
                sys.stderr.write(f"calllogd: the daemon is not reached: {error}; is it running?\n")
                return False
            out(f"{one.method} {one.body.decode('utf-8', 'replace')[:200] or url.raw_query_string[:200]}")
            out(f"  {answer.status} {text}")
            taken = taken and answer.status in ACCEPTED
    return taken


async def _follow(book: Ledger, key: CallKey) -> int:
    """Tell how the call goes on until it is at rest; return the exit code."""
    until, state = time.monotonic() + FOLLOWED_S, None
    while time.monotonic() < until:
        call = await book.calls.get(key)
        if call is not None and call.state is not state:
            state = call.state
            out(f"{key.call_id}: {state.value}")
        if call is not None and state is not None and state not in (CallState.PENDING, CallState.IN_DOUBT):
            out(f"{told(call)}; {place(call.entry)}")
            out(f"calllogd show {key.account_id} {key.call_id}  tells its whole story")
            return EX_FAILED if state is CallState.FAILED else EX_OK
        await asyncio.sleep(0.2)
    out(f"It is on its way still: calllogd show {key.account_id} {key.call_id}")
    return EX_OK
