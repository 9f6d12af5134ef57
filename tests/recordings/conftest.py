"""A folder of recordings, and services to fetch them from."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from calllogd.recordings.store import RecordingStore
from tests.recordings.services import MOST, Handler, Serve


@pytest.fixture
async def store(tmp_path: Path) -> RecordingStore:
    store = RecordingStore(tmp_path / "recordings", MOST, 0)
    await store.open()
    return store


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve all paths with a handler; return the address of one."""
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        servers.append(server)
        return f"http://127.0.0.1:{server.port}/recording"

    yield start
    for server in servers:
        await server.close()
