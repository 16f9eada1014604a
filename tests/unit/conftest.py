"""A room server whose media is a fake: its signalling is real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from greenroom.server.app import RoomServer
from greenroom.server.config import ServerConfig

from .server_fakes import FakeMediaServer


@pytest.fixture
def media() -> Iterator[FakeMediaServer]:
    fake = FakeMediaServer()
    yield fake
    fake.close()


@pytest.fixture
async def server(media: FakeMediaServer) -> AsyncIterator[RoomServer]:
    one = RoomServer(ServerConfig.dev(port=0), media=media)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()
