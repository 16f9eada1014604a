"""The `livekit` version that `livekit-agents` pins, beside our SDK on our server: media, data, streams and RPC."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from greenroom import rtc
from tests.conftest import token, until
from tests.interop.rtc_pairs import Member, dominant_frequency, feeding, listen, watch

PYTHON = os.environ.get("GREENROOM_AGENTS_PYTHON", "")
SCRIPT = Path(__file__).with_name("pinned_participant.py")

pytestmark = pytest.mark.skipif(not PYTHON, reason="GREENROOM_AGENTS_PYTHON names no Python with livekit-agents")


class Pinned:
    """The other process, and what it printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: dict[str, Any] = {}
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said.update(json.loads(line))

    async def says(self, name: str) -> Any:
        return await until(lambda: self.said.get(name), f"the pinned participant says {name}", 30)

    async def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 15)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        await self._reader


@pytest.mark.parametrize("mode", ["single", "dual"])
async def test_both_hear_see_and_reach_each_other(room_server, mode):
    url = room_server.url.replace("http", "ws", 1)
    pinned = Pinned(
        await asyncio.create_subprocess_exec(
            *(PYTHON, str(SCRIPT), url, token("pinned"), mode),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
    )
    ours = Member(rtc, "ours")
    try:
        await ours.connect(room_server.url)
        version = await pinned.says("version")
        assert version.startswith("1.1."), "this test is about the pinned version, not the newest"
        audio = await ours.seen("track_subscribed", lambda track, *_: track.kind == rtc.TrackKind.KIND_AUDIO)
        video = await ours.seen("track_subscribed", lambda track, *_: track.kind == rtc.TrackKind.KIND_VIDEO)
        assert dominant_frequency(await listen(ours, audio[0])) == pytest.approx(440, abs=2)
        await watch(ours, video[0], (200, 0, 0), (200, 0, 0))

        _, tone = await ours.publish_tone(660)
        _, picture = await ours.publish_picture((0, 0, 200), (0, 0, 200))
        async with feeding(tone), feeding(picture):
            assert await pinned.says("hz") == pytest.approx(660, abs=2)
            red, green, blue = await pinned.says("rgb")
            assert blue > 150 and red < 60 and green < 60
        await ours.me.publish_data("hello", topic="greeting")
        assert await pinned.says("data") == "hello"
        await ours.me.send_text("a longer note", topic="notes")
        assert await pinned.says("text") == "a longer note"
        answer = await ours.me.perform_rpc(destination_identity="pinned", method="echo", payload="ping")
        assert answer == "ours:ping"
    finally:
        await ours.room.disconnect()
        await pinned.stop()
