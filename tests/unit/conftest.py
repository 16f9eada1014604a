"""A room server whose media is a fake and whose signalling is real; a dispatcher whose rooms are fakes; a conversation whose
providers are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from greenroom.server.app import RoomServer
from greenroom.server.config import ServerConfig

from .dispatch_stage import QUICK, Stage, open_stage
from .scene import Scene
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


@pytest.fixture
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """A dispatcher that waits for nobody long. Times of its own: `parametrize("stage", [JobTimes(...)], indirect=True)`."""
    async with open_stage(getattr(request, "param", QUICK)) as opened:
        yield opened


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """A conversation that the test opens, and that is closed when the test is over."""
    scene = Scene()
    yield scene
    if scene.conversation is not None:
        await scene.conversation.aclose()
