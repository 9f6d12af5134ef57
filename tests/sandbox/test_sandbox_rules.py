"""What is not known of Kommo, both ways."""

from typing import Any

import aiohttp
import pytest

from calllogd.sandbox import Account, Rules, SandboxKommo
from calllogd.sandbox.__main__ import main

PHONE = "+1 (555) 010-0200"
NOBODYS = "+1 555 010 9999"


def call(uniq: str, phone: str = PHONE) -> dict[str, Any]:
    return {
        "direction": "inbound",
        "duration": 1,
        "source": "s",
        "phone": phone,
        "uniq": uniq,
        "request_id": uniq,
    }


async def post(api: aiohttp.ClientSession, *calls: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with api.post("calls", json=calls) as answer:
        return answer.status, await answer.json(content_type=None)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("named", [True, False])
async def test_a_mixed_batch_is_answered_either_way_and_done_in_both(
    kommo: SandboxKommo, account: Account, api: aiohttp.ClientSession, status: int, named: bool
) -> None:
    kommo.rules.mixed_status, kommo.rules.mixed_request_ids = status, named
    account.add_contact("Kim", [PHONE])
    seen, body = await post(api, call("known"), call("unknown", NOBODYS))
    assert (seen, body["_total_items"]) == (status, 1)
    assert [it["request_id"] for it in body["_embedded"]["calls"]] == ["known"]
    assert [(it["status"], it.get("request_id")) for it in body["errors"]] == [
        (263, "unknown" if named else None)
    ]
    assert len(account.entries("known")) == 1
    assert (await post(api, call("alone")))[0] == 200
    assert (await post(api, call("nobody", NOBODYS)))[0] == 400


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("many", [False, True])
async def test_an_edit_replaces_all_params_or_those_it_names(
    account: Account, api: aiohttp.ClientSession, merge: bool, many: bool
) -> None:
    account.rules.merge_params = merge
    params = {"uniq": "c1", "duration": 1, "source": "s", "phone": PHONE}
    note = account.add_note(account.add_contact("Kim").ref, "call_in", params)
    item = {"id": note.id, "params": {"duration": 9}}
    path = "contacts/notes" if many else f"contacts/notes/{note.id}"
    async with api.patch(path, json=[item] if many else item) as answer:
        assert answer.status == 200
    assert note.params == (params | {"duration": 9} if merge else {"duration": 9})
    assert len(account.entries("c1")) == (1 if merge else 0)


async def test_the_rules_are_given_to_the_constructor() -> None:
    async with SandboxKommo(rate=0, rules=Rules(mixed_status=400, merge_params=True)) as sandbox:
        assert sandbox.account(1).rules == Rules(mixed_status=400, merge_params=True)
    assert SandboxKommo().rules == Rules(mixed_status=200, mixed_request_ids=True, merge_params=False)
    with pytest.raises(ValueError, match="mixed_status"):
        Rules(mixed_status=500)


async def test_the_rules_are_changed_over_http(kommo: SandboxKommo, account: Account) -> None:
    changed = {"mixed_status": 400, "mixed_request_ids": False, "refresh_until_used": True}
    async with aiohttp.ClientSession(f"{kommo.url}/_sandbox/") as control:
        async with control.post("rules", json=changed) as answer:
            assert answer.status == 200
        async with control.get("rules") as answer:
            shown = await answer.json()
        assert shown == {
            "mixed_status": 400,
            "mixed_request_ids": False,
            "merge_params": False,
            "refresh_until_used": True,
        }
        impossible: list[Any] = [
            {"mixed_status": 500, "merge_params": True},
            {"merge_params": 1},
            {"refresh_until_used": "yes"},
            {"x": 1},
            [],
        ]
        for wrong in impossible:
            async with control.post("rules", json=wrong) as answer:
                assert answer.status == 400
    assert account.rules == Rules(mixed_status=400, mixed_request_ids=False, refresh_until_used=True)


@pytest.mark.parametrize("options", [["--mixed-status", "500"], ["--replace-params", "--merge-params"]])
def test_impossible_options_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(options)
    assert caught.value.code == 2
    assert options[-1].partition(" ")[0] in capsys.readouterr().err
