"""Every Python block of the README and of `docs/` is a program: it is run here as a reader would run it."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit import rtc as OFFICIAL_SDK

from greenroom import agents, models
from greenroom.agents import Agent, Conversation, ConversationOptions, JobContext, WorkerOptions
from greenroom.agents.speech import EndpointingOptions
from greenroom.api import CreateAgentDispatchRequest, LiveKitAPI
from greenroom.server.app import RoomServer
from tests.conftest import token, until

from .peer_sides import Side, frequency
from .rtc_pairs import Member, dominant_frequency, feeding, in_room, listen

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def program(name: str, block: int = 0, count: int = 1) -> dict[str, Any]:
    """The names that one of a page's `count` blocks defines."""
    texts = blocks(ROOT / name)
    assert len(texts) == count, "each block has a test"
    text = texts[block]
    names: dict[str, Any] = {"__name__": name}
    exec(compile(text, name, "exec"), names)
    return names


def test_every_block_has_a_test():
    with_blocks = {str(page.relative_to(ROOT)) for page in PAGES if blocks(page)}
    pages = ("api", "coming-from-livekit-agents", "conversation", "models", "rtc", "server", "speech")
    assert with_blocks == {"README.md", *(f"docs/{page}.md" for page in pages)}


def test_readme():
    # `tests/e2e/test_wheel.py` runs it against a call.
    assert issubclass(program("README.md")["Transcription"], Agent)


async def test_api(room_server: RoomServer, api: LiveKitAPI):
    names = program("docs/api.md")
    await names["main"](room_server.url)
    # The room had its unnamed dispatch already, for agents that take every room.
    [dispatch] = [each for each in await api.agent_dispatch.list_dispatch("den") if each.agent_name]
    assert dispatch.agent_name == "kitt"
    assert names["token"].count(".") == 2
    assert names["api"].CreateAgentDispatchRequest is CreateAgentDispatchRequest


async def test_conversation(start_worker, room_server: RoomServer, tmp_path: Path):
    first, second = blocks(ROOT / "docs/conversation.md")
    app = tmp_path / "app.py"
    app.write_text(
        f"{first}\n{second}\n"
        "from greenroom.agents import cli\n"
        "class Parrot(Assistant):\n"
        "    async def on_start(self):\n"
        "        self.conversation = talk(self.room)\n"
        "        await self.conversation.start()\n"
        "if __name__ == '__main__':\n    cli.run_app(Parrot)\n"
    )
    await start_worker(app)
    ann = Member(OFFICIAL_SDK, "ann")
    texts: list[str] = []

    async def read(reader: Any) -> None:
        texts.append(await reader.read_all())

    tasks: list[asyncio.Task[None]] = []
    for topic in ("lk.chat", "lk.transcription"):
        ann.room.register_text_stream_handler(topic, lambda reader, _: tasks.append(asyncio.create_task(read(reader))))
    await ann.connect(room_server.url)
    try:
        await ann.seen("track_subscribed")
        await ann.me.send_text("hello there", topic="lk.chat")
        await until(lambda: any("You said: hello there" in text for text in texts), "the parrot answers", 30)
    finally:
        await ann.room.disconnect()
        await asyncio.gather(*tasks, return_exceptions=True)


COMING = "docs/coming-from-livekit-agents.md"


async def greeted(room_server: RoomServer, topic: str, words: str) -> None:
    """Join, and wait until the agent says so."""
    ann = Member(OFFICIAL_SDK, "ann")
    texts: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def read(reader: Any) -> None:
        texts.append(await reader.read_all())

    ann.room.register_text_stream_handler(topic, lambda reader, _: tasks.append(asyncio.create_task(read(reader))))
    await ann.connect(room_server.url)
    try:
        await until(lambda: any(words in text for text in texts), f"{words!r} on {topic}", 40)
    finally:
        await ann.room.disconnect()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_coming_from_livekit_agents_a_worker(start_worker, room_server: RoomServer, tmp_path: Path):
    app = tmp_path / "app.py"
    app.write_text(blocks(ROOT / COMING)[0])
    await start_worker(app)
    await greeted(room_server, "lk.chat", "Hello, ann!")


async def test_coming_from_livekit_agents_a_conversation(start_worker, room_server: RoomServer, tmp_path: Path):
    app = tmp_path / "app.py"
    app.write_text(
        blocks(ROOT / COMING)[1]
        + "\nfrom greenroom.agents import WorkerOptions, cli\n"
        + "cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint, prewarm_fnc=prewarm))\n"
    )
    await start_worker(app)
    await greeted(room_server, "lk.transcription", "Hello, how can I help you?")


def test_coming_from_livekit_agents_names_what_is_there():
    text = (ROOT / COMING).read_text()
    here = re.findall(r"^\|[^|]*\|([^|]*)\|", text, re.MULTILINE)
    options = {field.name for made in (ConversationOptions, EndpointingOptions) for field in dataclasses.fields(made)}
    for keyword in re.findall(r"(?:Conversation|Endpointing)Options\(([^)]*)\)", " ".join(here)):
        assert set(re.findall(r"(\w+)=", keyword)) <= options, keyword
    # What the page calls missing must be missing.
    gone = text.partition("## What has no counterpart yet")[2]
    for name in re.findall(r"`(?:ctx\.)?(\w+)`", gone):
        for home in (agents, JobContext, WorkerOptions, Conversation):
            assert not hasattr(home, name), f"{home.__name__} has {name} by now"


async def test_rtc(room_server: RoomServer):
    ann = Member(OFFICIAL_SDK, "ann")
    await ann.connect(room_server.url)
    try:
        running = asyncio.create_task(
            program("docs/rtc.md", 0, 3)["main"](room_server.url.replace("http", "ws", 1), token("ben"))
        )
        track, *_ = await ann.seen("track_subscribed")
        assert abs(dominant_frequency(await listen(ann, track, 0.5)) - 400) < 5
        await asyncio.wait_for(running, 15)
    finally:
        await ann.room.disconnect()


async def test_rtc_without_a_room():
    heard: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def endpoint(request: web.Request) -> web.Response:
        assert request.content_type == "application/sdp"

        @listener.pc.on("track")
        async def on_track(track: Any) -> None:
            heard.set_result(await frequency(track))

        answer = await listener.pc.accept_offer(await request.text())
        return web.Response(status=201, text=answer, content_type="application/sdp")

    async with Side("listener") as listener, Side("singer") as singer:
        app = web.Application()
        app.router.add_post("/whip", endpoint)
        async with TestServer(app) as server:
            publish = program("docs/rtc.md", 1, 3)["publish"]
            running = asyncio.create_task(publish(str(server.make_url("/whip")), singer.tone(440), 1.5))
            assert abs(await asyncio.wait_for(heard, 15) - 440) < 8
            await asyncio.wait_for(running, 15)


async def test_rtc_recording(room_server: RoomServer, tmp_path: Path):
    async with in_room(room_server, "livekit.rtc", "greenroom.rtc") as (ann, ben):
        _, task = await ann.publish_picture((220, 30, 30), (30, 30, 220))
        async with feeding(task):
            track, *_ = await ben.seen("track_subscribed")
            path = tmp_path / "ann.ivf"
            await asyncio.wait_for(program("docs/rtc.md", 2, 3)["record"](track, str(path), 1.0), 15)
    data = path.read_bytes()
    assert data[:4] == b"DKIF" and struct.unpack_from("<4sHH", data, 8) == (b"VP80", 320, 240)
    at, times = 32, []
    while at < len(data):
        size, stamp = struct.unpack_from("<IQ", data, at)
        times.append(stamp)
        at += 12 + size
    assert at == len(data) and times[0] == 0 and times[-1] >= 1_000_000 and len(times) > 10


async def test_server():
    [text] = blocks(ROOT / "docs/server.md")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", text), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await asyncio.wait_for(process.communicate(), 30))[0].decode()
    assert process.returncode == 0, output
    assert re.search(r"http://\S+:\d+", output)


async def test_speech(capsys: pytest.CaptureFixture[str]):
    async def silence():
        for _ in range(30):
            yield np.zeros(1600, np.int16)

    await asyncio.wait_for(program("docs/speech.md")["listen"](silence()), 60)
    assert "final" not in capsys.readouterr().out.lower()


def test_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GREENROOM_MODELS", str(tmp_path))
    recogniser = program("docs/models.md")["recogniser"]
    assert (
        recogniser()
        == "the small one (whisper-tiny is not on this machine: `greenroom models get whisper-tiny` brings it)"
    )
    for file in models.models()["whisper-base"].files:
        (tmp_path / "whisper-base").mkdir(exist_ok=True)
        with (tmp_path / "whisper-base" / file.path).open("wb") as sparse:
            sparse.truncate(file.size)
    assert recogniser().startswith("the small one"), "what nobody has checked is not there"
