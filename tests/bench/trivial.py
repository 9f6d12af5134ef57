"""What the daemon is compared with: `python trivial.py PORT DATABASE` serves two endpoints with aiohttp.

/trivial answers a JSON POST with JSON. /naive inserts, commits and enqueues in Huey for each request, which
is what one writes first.
"""

import asyncio
import sys

import aiosqlite
from aiohttp import web
from huey import SqliteHuey


async def trivial(request: web.Request) -> web.Response:
    event = await request.json()
    return web.json_response({"call_id": event["call_id"]}, status=202)


async def main(port: int, path: str) -> None:
    huey = SqliteHuey("naive", filename=path + ".huey", results=False, fsync=True)

    @huey.task()  # type: ignore[untyped-decorator]
    def add_call(call_id: str) -> None:
        """Do nothing: the naive daemon's workers are not measured."""

    database = await aiosqlite.connect(path)
    for statement in (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "CREATE TABLE calls (call_id TEXT PRIMARY KEY, body BLOB)",
    ):
        await database.execute(statement)
    await database.commit()
    writing = asyncio.Lock()

    async def naive(request: web.Request) -> web.Response:
        event = await request.json()
        async with writing:
            await database.execute(
                "INSERT OR IGNORE INTO calls VALUES (?, ?)", (event["call_id"], await request.read())
            )
            await database.commit()
        add_call(event["call_id"])
        return web.json_response({"call_id": event["call_id"]}, status=202)

    app = web.Application()
    app.router.add_post("/trivial", trivial)
    app.router.add_post("/naive", naive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
