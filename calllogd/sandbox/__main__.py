"""`python -m calllogd.sandbox`: the stand-in of Kommo as a program."""

import argparse
import asyncio
import ipaddress
import json
import os
import secrets
import signal
import sys
from typing import Final

from yarl import URL

from calllogd.sandbox.consent import CONSENT_PATH
from calllogd.sandbox.integration import Integration
from calllogd.sandbox.rules import MIXED_STATUSES, Rules
from calllogd.sandbox.server import RATE, SandboxKommo

CANNOT_LISTEN: Final = 1
MAX_PORT: Final = 65535
KNOWN_PHONE: Final = "+1 555 010 0200"
KNOWN_PHONE_WITH_LEAD: Final = "+1 555 010 0201"


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; 0 when asked to stop, 1 when the address cannot be had."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        integration = _integration(options)
    except ValueError as exc:
        parser.error(str(exc))
    return asyncio.run(_serve(options, integration))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m calllogd.sandbox",
        description="A stand-in of Kommo's API on this machine, for integrators without a Kommo account. "
        "It keeps everything in memory and starts with two contacts, one of them with an active lead.",
        epilog="What stands in it: GET /_sandbox/state?account_id=N. Faults: POST /_sandbox/faults, "
        'for instance {"kind": "timeout_after", "path": "^/calls$", "times": 1}. Webhooks of Kommo: '
        'POST /_sandbox/hooks {"account_id": N, "url": "http://…"}. '
        "It is a VoIP service's recording server as well: GET /_exchange/recordings/NAME.mp3 (or .wav), "
        'POST /_exchange/mishaps {"kind": "missing", "times": 2}.',
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        type=_address,
        default=("127.0.0.1", 8090),
        help="default 127.0.0.1:8090",
    )
    parser.add_argument(
        "--account", metavar="ID", type=int, default=31337, help="account id, default %(default)s"
    )
    parser.add_argument("--token", metavar="TEXT", help="access token of the account; made up when not given")
    parser.add_argument(
        "--rate",
        metavar="N",
        type=int,
        default=RATE,
        help="requests a second, 0: no limit; default %(default)s",
    )
    parser.add_argument(
        "--search-lag", metavar="S", type=float, default=0.0, help="seconds until searches find what is new"
    )
    parser.add_argument(
        "--list-lag", metavar="S", type=float, default=0.0, help="seconds until lists show it"
    )
    parser.add_argument("--latency", metavar="S", type=float, default=0.0, help="seconds before each answer")
    oauth = parser.add_argument_group("OAuth", "Also, at any time: POST /_sandbox/oauth.")
    oauth.add_argument("--client-id", metavar="TEXT", help="id of the integration; without it no OAuth")
    oauth.add_argument("--client-secret", metavar="TEXT", help="its secret; made up when not given")
    oauth.add_argument("--redirect-uri", metavar="URL", help="where its codes go; needed with --client-id")
    oauth.add_argument("--disable-url", metavar="URL", help="who is told that it was uninstalled")
    doubtful = parser.add_argument_group(
        "what is not known of Kommo", "Also, at any time: POST /_sandbox/rules."
    )
    doubtful.add_argument(
        "--mixed-status",
        metavar="N",
        type=int,
        choices=MIXED_STATUSES,
        default=Rules().mixed_status,
        help="200 or 400 for a batch of calls some of which have an unknown number; default %(default)s",
    )
    doubtful.add_argument(
        "--mixed-request-ids",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether the errors of such a batch carry the request_id of their call; default: they do",
    )
    doubtful.add_argument(
        "--refresh-until-used",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="whether a refresh token stays good until what it was exchanged for is used; "
        "default: it is dead at once",
    )
    edits = doubtful.add_mutually_exclusive_group()
    edits.add_argument(
        "--replace-params",
        dest="merge_params",
        action="store_false",
        default=False,
        help="an edit of a note replaces all its params (default)",
    )
    edits.add_argument(
        "--merge-params",
        dest="merge_params",
        action="store_true",
        help="an edit of a note replaces the params it names",
    )
    return parser


def _integration(options: argparse.Namespace) -> Integration | None:
    if options.client_id is None:
        if options.client_secret or options.redirect_uri or options.disable_url:
            raise ValueError("--client-secret, --redirect-uri and --disable-url need --client-id")
        return None
    if options.redirect_uri is None:
        raise ValueError("--client-id needs --redirect-uri")
    return Integration(
        options.client_id,
        options.client_secret or secrets.token_urlsafe(48),
        options.redirect_uri,
        options.disable_url,
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
        number = int(port)
    except ValueError:
        raise argparse.ArgumentTypeError("should look like 127.0.0.1:8090") from None
    if not 0 <= number <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"a port is 0 to {MAX_PORT}")
    if not loopback:
        raise argparse.ArgumentTypeError(
            "the sandbox has no protection and listens on a loopback address only"
        )
    return host, number


async def _serve(options: argparse.Namespace, integration: Integration | None) -> int:
    sandbox = SandboxKommo(
        rate=options.rate,
        search_lag=options.search_lag,
        list_lag=options.list_lag,
        latency=options.latency,
        rules=Rules(
            mixed_status=options.mixed_status,
            mixed_request_ids=options.mixed_request_ids,
            merge_params=options.merge_params,
            refresh_until_used=options.refresh_until_used,
        ),
        integration=integration,
    )
    account = sandbox.account(options.account, token=options.token)
    account.add_contact("Kim Known", [KNOWN_PHONE])
    account.add_contact("Lee Lead", [KNOWN_PHONE_WITH_LEAD], [account.add_lead("Lee's order")])
    # Before the address is announced: whoever reads it may send a signal at once.
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    host, port = options.listen
    try:
        await sandbox.start(host, port)
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        sys.stderr.write(f"calllogd.sandbox: cannot listen on {host}:{port}: {reason}\n")
        return CANNOT_LISTEN
    sys.stdout.write(
        f"base_url     = {sandbox.url}\n"
        f"account      = {account.id}\n"
        f"access_token = {account.token}\n"
        f"contacts       {KNOWN_PHONE} (no lead), {KNOWN_PHONE_WITH_LEAD} (one active lead)\n"
        f"recordings     {sandbox.recording_url('NAME.mp3')}, or .wav\n"
    )
    if integration is not None:
        sys.stdout.write(_oauth_settings(sandbox.url, sandbox.domain(account.id), integration))
    sys.stdout.flush()
    await asked_to_stop.wait()
    await sandbox.stop()
    return 0


def _oauth_settings(url: str, domain: str, integration: Integration) -> str:
    consent = URL(url).with_path(CONSENT_PATH)
    settings = {
        "client_id": integration.client_id,
        "client_secret": integration.client_secret,
        "redirect_uri": integration.redirect_uri,
        "consent_url": str(consent),
        "domains": [domain],
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    asked = consent.with_query(client_id=integration.client_id)
    return "\n".join([f"consent        {asked}", "[kommo]", *lines, ""])


if __name__ == "__main__":
    sys.exit(main())
