"""`greenroom dev` and `greenroom doctor` as a person runs them."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from livekit.protocol.room import CreateRoomRequest, ListParticipantsRequest

from greenroom.api import LiveKitAPI
from greenroom.server.config import DEV_KEY, DEV_SECRET
from tests.conftest import WorkerProcess, until

APP = """
from greenroom.agents import Agent

class Versioned(Agent):
    async def on_start(self):
        await self.participant.set_attributes({"version": "%s"})
"""


@asynccontextmanager
async def dev(app: Path, *arguments: str) -> AsyncIterator[WorkerProcess]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "greenroom", "dev", str(app), "--port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    running = WorkerProcess(process)
    try:
        yield running
    finally:
        await running.stop()


async def address(running: WorkerProcess) -> str:
    found = await until(lambda: re.search(r"Playground\s+(http://\S+)", running.text), "the address is printed", 30)
    return found.group(1)


async def test_a_changed_file_is_loaded_again_and_takes_over_the_open_room(tmp_path):
    app = tmp_path / "app.py"
    app.write_text(APP % "one")
    async with dev(app) as running:
        async with LiveKitAPI(await address(running), DEV_KEY, DEV_SECRET) as api:
            await api.room.create_room(CreateRoomRequest(name="open"))

            async def version() -> str:
                people = (await api.room.list_participants(ListParticipantsRequest(room="open"))).participants
                return ",".join(person.attributes.get("version", "") for person in people)

            await until(lambda: _equals(version, "one"), "the agent joins")
            app.write_text(APP % "two")
            await until(lambda: _equals(version, "two"), "the changed agent takes its place", 40)
        running.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(running.process.wait(), 30) == 0
    assert "Traceback" not in running.text


async def _equals(get, wanted: str) -> bool:
    return await get() == wanted


async def test_a_broken_file_is_shown_and_loaded_when_it_is_mended(tmp_path):
    app = tmp_path / "app.py"
    app.write_text("import no_such_module\n")
    async with dev(app) as running:
        await until(lambda: "before it was ready" in running.text, "the failure is shown", 30)
        assert "No module named 'no_such_module'" in running.text
        url = await address(running)
        app.write_text(APP % "mended")
        await until(lambda: "ready" in running.output, "it is loaded again", 40)
        async with LiveKitAPI(url, DEV_KEY, DEV_SECRET) as api:
            await api.room.create_room(CreateRoomRequest(name="open"))

            async def joined() -> bool:
                people = (await api.room.list_participants(ListParticipantsRequest(room="open"))).participants
                return any(person.attributes.get("version") == "mended" for person in people)

            await until(joined, "the mended agent joins")


async def test_a_file_without_an_agent_is_one_sentence_and_exit_1(tmp_path):
    app = tmp_path / "app.py"
    app.write_text("x = 1\n")
    async with dev(app, "--no-reload") as running:
        assert await asyncio.wait_for(running.process.wait(), 30) == 1
    assert "defines no Agent class and does not call cli.run_app" in running.text
    assert "Traceback" not in running.text


async def test_doctor_names_what_is_there():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "greenroom", "doctor"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    for row in ("Python", "native module", "playground", "recognition", "synthesiser", "browser"):
        assert row in output.decode()
