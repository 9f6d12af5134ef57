"""Attacks on who is let in: forged tokens and signatures, other accounts, other pages, links and secrets."""

import base64
import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.faults.machine import ACCESS_TOKEN, ACCOUNT, CLIENT_ID, CLIENT_SECRET, OTHER_ACCOUNT, VOIP_TOKEN
from tests.target import ADMIN_TOKEN, SIGNING_SECRET, SOUND, Target, fresh
from tests.widget_tokens import segment

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = RSA_KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
PUBLIC = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
DAY_S = 86_400

Forge = Callable[[Target], str]


def signed(key: str = CLIENT_SECRET, algorithm: str = "HS256", head: Any = None, **changes: Any) -> Forge:
    """Return what makes a token with these claims changed."""
    return lambda here: jwt.encode(here.claims(**changes), key, algorithm, headers=head)


def unsigned(algorithm: str, tail: str = "") -> Forge:
    """Return what makes a token without a signature."""
    return lambda here: f"{segment({'alg': algorithm, 'typ': 'JWT'})}.{segment(here.claims())}.{tail}"


def confused(here: Target) -> str:
    """Return a token that says RS256 and is signed by a public key as if that were a secret."""
    said = f"{segment({'alg': 'RS256', 'typ': 'JWT'})}.{segment(here.claims())}"
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(said.encode(), PUBLIC)
    return f"{said}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def retold(**changes: Any) -> Forge:
    """Return what makes a token whose claims were changed after it had been signed."""

    def forge(here: Target) -> str:
        head, _, signature = jwt.encode(here.claims(), CLIENT_SECRET, "HS256").split(".")
        return f"{head}.{segment({**here.claims(), **changes})}.{signature}"

    return forge


def cut(here: Target) -> str:
    return jwt.encode(here.claims(), CLIENT_SECRET, "HS256")[:-1]


NOW = int(time.time())
FORGED: Mapping[str, Forge] = {
    "nothing": lambda _: "",
    "nonsense": lambda _: "a.b.c",
    "another key": signed("x" * 64),
    "the client id as key": signed(CLIENT_ID),
    "no key": lambda here: jwt.encode(here.claims(), "\0" * 32, "HS256"),
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg NONE with a signature": unsigned("NONE", "AAAA"),
    "no alg": lambda here: f"{segment({'typ': 'JWT'})}.{segment(here.claims())}.AAAA",
    "HS384": signed(algorithm="HS384"),
    "HS512": signed(algorithm="HS512"),
    "RS256 of a stranger": lambda here: jwt.encode(here.claims(), PEM, "RS256"),
    "RS256 confused with HS256": confused,
    "kid of an empty file": signed("\0" * 32, head={"kid": "../../../../dev/null"}),
    "kid of a query": signed("x" * 64, head={"kid": "' UNION SELECT 'x"}),
    "key of its own": signed("x" * 64, head={"jwk": {"kty": "oct", "k": "eHh4"}}),
    "unknown crit": signed(head={"crit": ["exp"]}),
    "no signature": lambda here: cut(here).rpartition(".")[0] + ".",
    "cut": cut,
    "expired": signed(exp=NOW - 120, nbf=NOW - DAY_S, iat=NOW - DAY_S),
    "not yet valid": signed(nbf=NOW + DAY_S, iat=NOW + DAY_S, exp=NOW + 2 * DAY_S),
    "without an end": signed(exp=None),
    "end beyond all times": signed(exp=2**60),
    "for another address": signed(aud="https://evil.example"),
    "for several addresses": lambda here: signed(aud=[here.daemon.url, "https://evil.example"])(here),
    "of another page": signed(iss="https://evil.example"),
    "of another account's page": lambda here: signed(iss=here.other_origin)(here),
    "of an account that is not there": signed(account_id=99),
    "of another integration": signed(client_uuid="another"),
    "another account put in": retold(account_id=OTHER_ACCOUNT),
    "another user put in": retold(user_id=1),
    "a longer life put in": retold(exp=NOW + 10**6),
    "wrong kind of account": signed(account_id=[ACCOUNT]),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_of_the_widget_lets_nobody_in(here: Target, name: str) -> None:
    call_id, before = fresh("forged"), here.counts()
    headers = here.shown(FORGED[name](here))
    for method, path, body in (
        ("PUT", f"/widget/v1/calls/{call_id}/result", {"rev": 1}),
        ("GET", "/widget/v1/calls/bystander-0", None),
        ("POST", "/widget/v1/session", None),
    ):
        answer = here.ask(method, path, headers, body)
        assert (answer.status, answer.code) == (401, "unauthorized"), path
    assert here.counts() == before


def test_a_right_token_lets_its_user_in(here: Target) -> None:
    """The attacks above fail for what they change, and for nothing else."""
    assert here.ask("GET", "/widget/v1/calls/bystander-0", here.widget()).status == 200


def test_a_token_makes_calllogd_ask_for_no_key_elsewhere(here: Target) -> None:
    with socket.create_server(("127.0.0.1", 0)) as evil:
        evil.settimeout(0.3)
        url = f"http://127.0.0.1:{evil.getsockname()[1]}/keys"
        for header in ("jku", "x5u", "kid"):
            token = jwt.encode(here.claims(), PEM, "RS256", headers={header: url})
            assert here.ask("GET", "/widget/v1/calls/bystander-0", here.shown(token)).status == 401
        with pytest.raises(TimeoutError):
            evil.accept()


def test_two_tokens_are_none(here: Target) -> None:
    headers = [*here.widget().items(), ("X-Auth-Token", here.widget()["X-Auth-Token"])]
    assert here.ask("GET", "/widget/v1/calls/bystander-0", headers).status == 401


def test_a_token_is_no_ticket_and_a_ticket_no_token(here: Target) -> None:
    token = here.widget()["X-Auth-Token"]
    ticket = here.ask("POST", "/widget/v1/session", here.widget()).json["ticket"]
    assert here.ask("GET", f"/widget/v1/events?ticket={token}", {"Origin": here.origin}).status == 401
    assert here.ask("GET", "/widget/v1/calls/bystander-0", here.shown(ticket)).status == 401


def test_a_forged_ticket_opens_no_stream(here: Target) -> None:
    ticket = here.ask("POST", "/widget/v1/session", here.widget()).json["ticket"]
    raw = bytearray(base64.urlsafe_b64decode(ticket))
    forged = []
    for place in (0, 8, 16, 24, len(raw) - 1):
        changed = raw.copy()
        changed[place] ^= 1
        forged.append(base64.urlsafe_b64encode(bytes(changed)).decode())
    for shown in (*forged, "", "A" * len(ticket), f"{ticket}&ticket={ticket}"):
        answer = here.ask("GET", f"/widget/v1/events?ticket={shown}", {"Origin": here.origin})
        assert answer.status == 401, shown
    for origin in (here.other_origin, "https://evil.example", "null"):
        assert here.ask("GET", f"/widget/v1/events?ticket={ticket}", {"Origin": origin}).status == 401


def test_a_right_ticket_opens_a_stream(here: Target) -> None:
    ticket = here.ask("POST", "/widget/v1/session", here.widget()).json["ticket"]
    head = f"GET /widget/v1/events?ticket={ticket} HTTP/1.1\r\nHost: x\r\nOrigin: {here.origin}\r\n\r\n"
    with socket.create_connection(here.address, timeout=5) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")


# Other accounts


def told(here: Target, account_id: int, call_id: str) -> tuple[Any, Any]:
    """Return everything that the ledger has of a call, but for what a clock moves."""
    dump = here.dump()
    (call,) = [row for row in dump["calls"] if row[1:3] == (account_id, call_id)]
    return call, [line for line in dump["journal"] if line[0] == call[0]]


def test_nobody_reads_another_accounts_call(here: Target) -> None:
    here.report(call_id := fresh("secret"))
    assert here.ask("GET", f"/widget/v1/calls/{call_id}", here.widget()).status == 200
    theirs = here.ask("GET", f"/widget/v1/calls/{call_id}", here.widget(OTHER_ACCOUNT))
    unknown = here.ask("GET", f"/widget/v1/calls/{fresh('no')}", here.widget(OTHER_ACCOUNT))
    assert (theirs.status, theirs.json) == (unknown.status, unknown.json)
    assert theirs.status == 404
    listed = here.ask("GET", "/widget/v1/calls?open=1", here.widget(OTHER_ACCOUNT)).text
    assert call_id not in listed


@pytest.mark.parametrize(
    ("method", "what", "body"),
    [
        ("PUT", "", {"direction": "inbound", "phone": "+12125550199"}),
        ("PUT", "/result", {"rev": 9, "text": "stolen"}),
        ("POST", "/skip", {}),
    ],
)
def test_what_the_widget_says_changes_no_call_of_another_account(
    here: Target, method: str, what: str, body: object
) -> None:
    here.report(call_id := fresh("mine"))
    here.quiet()
    before = told(here, ACCOUNT, call_id)
    answer = here.ask(method, f"/widget/v1/calls/{call_id}{what}", here.widget(OTHER_ACCOUNT), body)
    assert answer.status == 200, "it is a call of the other account, of the same id"
    here.quiet()
    assert told(here, ACCOUNT, call_id) == before


def test_another_accounts_voip_service_changes_nothing(here: Target) -> None:
    here.report(call_id := fresh("mine"))
    here.quiet()
    before, counts = told(here, ACCOUNT, call_id), here.counts()
    theirs = here.voip(OTHER_ACCOUNT)
    event = {"event": "recording.failed", "call_id": call_id}
    assert here.ask("POST", f"/voip/generic/{ACCOUNT}", theirs, event).status == 401
    sound = {**theirs, "Content-Type": "audio/wav"}
    path = f"/voip/generic/{ACCOUNT}/recordings/{call_id}"
    assert here.ask("PUT", path, sound, SOUND).status == 401
    assert told(here, ACCOUNT, call_id) == before
    assert here.counts() == counts


def test_whoever_asks_learns_not_which_accounts_there_are(here: Target) -> None:
    accounts = (ACCOUNT, OTHER_ACCOUNT, 99, "x", "0", f"0{ACCOUNT}", f"{ACCOUNT}%20", "%D9%A3")
    wrong = {"Authorization": "Bearer wrong-token-of-sixteen"}
    answers = [here.ask("POST", f"/voip/generic/{account}", wrong, {"event": "x"}) for account in accounts]
    assert {(answer.status, answer.body) for answer in answers} == {(401, answers[0].body)}
    tries = [here.ask("GET", f"/voip/zadarma/{account}?zd_echo=word", {}) for account in accounts]
    assert {(answer.status, answer.body) for answer in tries} == {(200, b"word")}


@pytest.mark.parametrize(
    "origins",
    [
        [],
        ["null"],
        ["https://evil.example"],
        ["{origin}.evil.example"],
        ["{origin}:80"],
        ["{origin}/"],
        ["{ORIGIN}"],
        ["https{origin}"],
        ["{other}"],
        ["{origin}", "{origin}"],
        ["{origin} {other}"],
    ],
)
def test_another_page_may_not_ask(here: Target, origins: Sequence[str]) -> None:
    named = {"origin": here.origin, "other": here.other_origin, "ORIGIN": here.origin.upper()}
    shown = [("Origin", origin.format(**named)) for origin in origins]
    token = [("X-Auth-Token", here.widget()["X-Auth-Token"])]
    answer = here.ask("GET", "/widget/v1/calls/bystander-0", [*token, *shown])
    assert answer.status == 401
    if origins != ["{other}"]:  # that is a page of an account, too: it may read that it is refused
        assert "Access-Control-Allow-Origin" not in answer.headers
        wish = ("Access-Control-Request-Method", "PUT")
        preflight = here.ask("OPTIONS", "/widget/v1/calls/bystander-0", [wish, *shown])
        assert (preflight.status, "Access-Control-Allow-Origin" in preflight.headers) == (403, False)


# Webhooks


def message(call_id: str) -> bytes:
    said = {"event": "call.ended", "call_id": call_id, "direction": "inbound", "phone": "+12125550100"}
    return json.dumps({**said, "duration": 3, "status": "answered"}).encode()


def post(here: Target, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    answer = here.ask("POST", f"/voip/generic/{ACCOUNT}", headers, body)
    return answer.status, answer.code


@pytest.mark.parametrize("age_s", [301, 3600, -301, -3600])
def test_a_recorded_webhook_cannot_be_sent_again_later(here: Target, age_s: int) -> None:
    body, before = message(fresh("replay")), here.counts()
    assert post(here, here.signed(body, at=time.time() - age_s), body) == (401, "unauthorized")
    assert here.counts() == before


def test_a_webhook_sent_again_at_once_does_nothing_new(here: Target) -> None:
    body = message(call_id := fresh("twice"))
    headers = here.signed(body)
    assert post(here, headers, body) == (202, "")
    here.quiet()
    before = told(here, ACCOUNT, call_id)[0]
    again = here.ask("POST", f"/voip/generic/{ACCOUNT}", headers, body)
    assert (again.status, again.json["duplicate"]) == (202, True)
    here.quiet()
    assert told(here, ACCOUNT, call_id)[0] == before
    assert len(here.here.entries(call_id)) == 1


def tampered(here: Target, body: bytes) -> Mapping[str, tuple[Mapping[str, str], bytes]]:
    """Return messages that somebody changed on their way."""
    right = here.signed(body)
    signature = right["webhook-signature"]
    later = str(int(right["webhook-timestamp"]) + 1)
    return {
        "body": (right, body.replace(b"answered", b"busy")),
        "a space more": (right, body + b" "),
        "id": ({**right, "webhook-id": "msg_2"}, body),
        "time": ({**right, "webhook-timestamp": later}, body),
        "time in other words": ({**right, "webhook-timestamp": f"{right['webhook-timestamp']}.0"}, body),
        "another version": ({**right, "webhook-signature": signature.replace("v1,", "v2,")}, body),
        "no version": ({**right, "webhook-signature": signature[3:]}, body),
        "cut": ({**right, "webhook-signature": signature[:-8]}, body),
        "nothing": ({**right, "webhook-signature": ""}, body),
        "nothing of version 1": ({**right, "webhook-signature": "v1,"}, body),
        "many wrong ones": ({**right, "webhook-signature": " ".join(["v1,AAAA"] * 500)}, body),
        "another secret": (here.signed(body, secret="whsec_" + base64.b64encode(b"x" * 32).decode()), body),
        "wrong signature and right token": ({**right, "webhook-signature": "v1,AAAA", **here.voip()}, body),
        "no id": ({name: it for name, it in right.items() if name != "webhook-id"}, body),
        "boundary moved": (
            {**right, "webhook-id": f"msg_1.{right['webhook-timestamp']}"},
            body,
        ),
    }


def test_a_tampered_webhook_is_refused(here: Target) -> None:
    body, before = message(fresh("tampered")), here.counts()
    for name, (headers, sent) in tampered(here, body).items():
        assert post(here, headers, sent) == (401, "unauthorized"), name
    assert here.counts() == before
    assert post(here, here.signed(body), body)[0] == 202, "untampered it is taken"


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {VOIP_TOKEN}{ACCOUNT}x",
        f"Bearer {VOIP_TOKEN}",
        f"Bearer {VOIP_TOKEN.upper()}{ACCOUNT}",
        f"Basic {VOIP_TOKEN}{ACCOUNT}",
        f"{VOIP_TOKEN}{ACCOUNT}",
        f"Bearer {VOIP_TOKEN}{OTHER_ACCOUNT}",
        "Bearer \x80\xff",
        "Bearer *",
    ],
)
def test_a_guessed_token_of_a_voip_service_is_refused(here: Target, shown: str) -> None:
    before = here.counts()
    assert post(here, {"Authorization": shown}, message(fresh("guessed"))) == (401, "unauthorized")
    assert here.counts() == before


def test_whoever_does_not_know_the_secret_tells_nothing_in_kommos_name(here: Target) -> None:
    said = here.run("check").said
    right, theirs = (said.split(f"/kommo/{one}/")[1].split()[0] for one in (ACCOUNT, OTHER_ACCOUNT))
    form = b"contacts[add][0][custom_fields][0][code]=PHONE&contacts[add][0][custom_fields][0][values][0]=1"
    for secret in (theirs, right[:-1], f"{right}0", right.upper(), "0" * 64, "%00", right[:-1] + "%0a"):
        answer = here.ask("POST", f"/kommo/{ACCOUNT}/{secret}", (), form)
        assert (answer.status, answer.code) == (404, "not_found")
    for account in (f"0{ACCOUNT}", f"{ACCOUNT}.0", f"+{ACCOUNT}"):
        assert here.ask("POST", f"/kommo/{account}/{right}", (), form).status == 404
    assert here.ask("POST", f"/kommo/{ACCOUNT}/{right}", (), form).status == 200


# Recordings


def recording(here: Target, account_id: int = ACCOUNT) -> tuple[str, str]:
    """Return the id of a call with a recording, and the path at which that is played."""
    here.report(call_id := fresh("heard"), account_id)
    assert here.upload(call_id, account_id).status == 201
    here.quiet()
    (entry,) = here.here.entries(call_id, account_id)
    return call_id, str(entry.params["link"]).removeprefix(here.daemon.url)


def test_a_tampered_link_plays_nothing(here: Target) -> None:
    _, path = recording(here)
    assert here.ask("GET", path).body == SOUND
    token = path.rpartition("/")[2]
    for place in (0, 1, 12, 22, 30, 34, len(token) - 2):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert here.ask("GET", f"/recordings/{changed}").status == 404, place
    for changed in (token[:-1], f"{token}=", f"{token}A", token.swapcase(), f"%31{token[2:]}", f"{token}%00"):
        assert here.ask("GET", f"/recordings/{changed}").status == 404, changed


def test_a_link_is_no_key_to_another_accounts_recording(here: Target) -> None:
    token = recording(here)[1].rpartition("/")[2]
    raw = bytearray(base64.urlsafe_b64decode(token[1:] + "=" * (-len(token[1:]) % 4)))
    raw[16:24] = OTHER_ACCOUNT.to_bytes(8, "big")
    forged = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    assert here.ask("GET", f"/recordings/1{forged}").status == 404


def test_the_link_of_a_forgotten_recording_is_dead(here: Target) -> None:
    call_id, path = recording(here)
    assert here.ask("GET", path).status == 200
    forgotten = here.run("forget", ACCOUNT, call_id)
    assert forgotten.code == 0, forgotten.said
    answer = here.ask("GET", path)
    assert (answer.status, answer.code) == (404, "not_found")
    assert here.ask("GET", path, {"Range": "bytes=0-3"}).status == 404
    assert here.ask("HEAD", path).status == 404


def test_recordings_are_not_listed(here: Target) -> None:
    for path in ("/recordings", "/recordings/", "/recordings/1", "/recordings/*", "/recordings/%2e"):
        assert here.ask("GET", path).status == 404, path


# What is left behind


def test_neither_the_ledger_nor_the_log_has_a_secret(here: Target) -> None:
    _, path = recording(here)
    ticket = here.ask("POST", "/widget/v1/session", here.widget()).json["ticket"]
    assert here.ask("GET", "/api/v1/status", here.operator()).status == 200
    assert (
        here.ask("POST", f"/voip/generic/{ACCOUNT}", {"Authorization": "Bearer guessed-by-a-stranger"}).status
        == 401
    )
    body = message(fresh("signed"))
    assert post(here, here.signed(body), body)[0] == 202
    hook = here.run("check").said.split(f"/kommo/{ACCOUNT}/")[1].split()[0]
    secrets = {
        "VoIP token": f"{VOIP_TOKEN}{ACCOUNT}",
        "signing secret": SIGNING_SECRET,
        "admin token": ADMIN_TOKEN,
        "client secret": CLIENT_SECRET,
        "Kommo's access token": f"{ACCESS_TOKEN}{ACCOUNT}",
        "widget token": here.widget()["X-Auth-Token"].rpartition(".")[2],
        "ticket": ticket,
        "link": path.rpartition("/")[2],
        "Kommo's address": hook,
        "wrong token": "guessed-by-a-stranger",
    }
    here.quiet()
    kept = {
        file.name: file.read_bytes() for file in here.here.folder.glob("calllogd.*") if file.suffix != ".toml"
    }
    assert {"calllogd.db", "calllogd.log", "calllogd.key"} <= kept.keys()
    found = {
        (name, what) for name, raw in kept.items() for what, said in secrets.items() if said.encode() in raw
    }
    assert found == set()


def test_files_are_for_their_owner_alone(here: Target) -> None:
    recording(here)
    mode = {path: path.stat().st_mode & 0o077 for path in (here.here.folder / "recordings").rglob("*")}
    assert len(mode) > 2
    assert {path: bits for path, bits in mode.items() if bits} == {}
    assert (here.here.folder / "calllogd.key").stat().st_mode & 0o777 == 0o600
