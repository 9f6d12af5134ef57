"""Commands about VoIP services, and files that services leave: each call is taken once, nothing is lost."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.faults.machine import ACCOUNT, KNOWN, Installation, installation, until

CDR = "1795409020.249,+12125550123,101,ANSWERED,5\n"
COLUMNS = ["uniqueid", "src", "dst", "disposition", "billsec"]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path) as found:
        found.sections["policy"] |= {"leg_wait": 1}
        found.sections["http"] = {"public_url": "https://calls.example.com"}
        yield found


@pytest.fixture
def cdrs(tmp_path: Path) -> Path:
    path = tmp_path / "old.csv"
    path.write_text(CDR)
    return path


def asterisk(**more: object) -> dict[str, object]:
    return {"token": "t" * 16, **more}


async def test_a_line_that_is_not_understood_is_kept_and_read_once_it_can_be(
    here: Installation, cdrs: Path
) -> None:
    here.accounts[0]["voip"]["asterisk"] = asterisk()
    here.write()
    first = await here.run("import", "asterisk", "--file", cdrs)
    assert (first.code, "1 not understood and kept" in first.said) == (1, True)
    assert "1 message(s) of asterisk are not understood" in (await here.run("check")).said
    assert (await here.run("replay")).code == 1
    here.accounts[0]["voip"]["asterisk"] = asterisk(cdr_columns=COLUMNS)
    here.write()
    again = await here.run("replay", "--service", "asterisk")
    assert (again.code, "1 message(s) are understood now" in again.said) == (0, True)
    assert list(await here.calls()) == [(ACCOUNT, "1795409020.249")]
    assert "Nothing more" in (await here.run("replay")).said


async def test_what_stays_not_understood_is_dropped_when_that_is_asked_for(
    here: Installation, cdrs: Path
) -> None:
    here.accounts[0]["voip"]["asterisk"] = asterisk()
    here.write()
    await here.run("import", "--file", cdrs)
    assert (await here.run("replay", "--service", "twilio", "--drop")).code == 0
    assert (await here.run("replay", "--drop")).code == 0
    assert "not understood" not in (await here.run("check")).said
    assert not await here.calls()


async def test_a_file_is_imported_twice_and_its_calls_are_there_once(here: Installation, cdrs: Path) -> None:
    here.accounts[0]["voip"]["asterisk"] = asterisk(cdr_columns=COLUMNS)
    here.write()
    for _ in range(2):
        done = await here.run("import", "asterisk", "--file", cdrs)
        assert (done.code, "1 record(s) taken" in done.said) == (0, True)
    assert len(await here.calls()) == 1
    assert (await here.run("import", "asterisk", "--file", cdrs.with_name("nowhere"))).code == 1


class Statistics:
    """Zadarma's list of calls, one for each day that is asked for, until it refuses."""

    def __init__(self) -> None:
        self.refuses_after = 99
        self.days: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        if len(self.days) >= self.refuses_after:
            return web.json_response({}, status=403)
        start = request.query["start"]
        self.days.append(start)
        row = {
            "pbx_call_id": f"in_{start}",
            "callstart": request.query["end"],
            "clid": 12025550143,
            "destination": 101,
            "disposition": "answered",
            "seconds": 63,
        }
        return web.json_response({"status": "success", "stats": [row]})


async def test_an_import_that_breaks_off_goes_on_from_there(here: Installation) -> None:
    statistics, app = Statistics(), web.Application()
    app.router.add_get("/v1/statistics/pbx/", statistics.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        known = {"key": "k", "secret": "s" * 16, "timezone": "UTC", "api_url": site.name}
        here.accounts[0]["voip"]["zadarma"] = known
        here.write()
        statistics.refuses_after = 2
        broken = await here.run("import", "zadarma", "--since", "2026-11-01", "--until", "2026-11-06")
        assert (broken.code, "goes on from there" in broken.said) == (75, True)
        assert len(statistics.days) == 2
        statistics.refuses_after = 99
        done = await here.run("import", "zadarma")
        assert (done.code, "Going on" in done.said) == (0, True)
        assert len(set(statistics.days)) == len(statistics.days) == 5
        assert len(await here.calls()) == 5
    finally:
        await runner.cleanup()


async def test_messages_that_could_not_be_delivered_are_taken_from_their_files(
    here: Installation, left: Path
) -> None:
    here.accounts[0]["voip"]["freeswitch"] = {"token": "t" * 16, "error_files": str(left)}
    daemon = here.daemon()
    await daemon.ready()
    await until(lambda: _names(left) == ["a.cdr.json.taken", "b.cdr.json.taken"])
    assert list(await here.calls()) == [(ACCOUNT, "cccccccc-0000-4000-8000-000000000009")]
    assert "1 message(s) of freeswitch are not understood" in (await here.run("check")).said


@pytest.fixture
def left(tmp_path: Path) -> Path:
    folder = tmp_path / "errors"
    folder.mkdir()
    variables = {
        "uuid": "cccccccc-0000-4000-8000-000000000009",
        "calllogd_direction": "in",
        "start_epoch": "1767225600",
        "answer_epoch": "0",
        "end_epoch": "1767225667",
        "hangup_cause": "NO_ANSWER",
    }
    flow = [{"caller_profile": {"caller_id_number": KNOWN, "destination_number": "101"}}]
    record = {"channel_data": {"direction": "inbound"}, "variables": variables, "callflow": flow}
    (folder / "a.cdr.json").write_text(json.dumps(record))
    (folder / "b.cdr.json").write_text("{half")
    return folder


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def test_a_call_is_simulated_and_followed(here: Installation) -> None:
    daemon = here.daemon()
    await daemon.ready()
    here.write()
    done = await here.run(
        "simulate", "generic", "--kind", "transfer", "--phone", KNOWN, "--twice", "--shuffle"
    )
    assert done.code == 0, done.said
    ((key, call),) = (await here.calls()).items()
    assert key[1] in done.said
    assert call["state"] == "logged"
    await here.each_stands_once([key])
    for wrong in (("nobody",), ("zadarma",), ("generic", "--extensions", "101")):
        assert (await here.run("simulate", *wrong)).code == 2
