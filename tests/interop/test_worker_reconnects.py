"""A worker's connection breaks in every way: one agent per dispatch, and true states afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from livekit.protocol import agent
from livekit.protocol.agent_dispatch import CreateAgentDispatchRequest

from greenroom import rtc
from greenroom.server.app import RoomServer
from greenroom.server.config import DEV_KEY, DEV_SECRET, RtcConfig, ServerConfig
from tests.conftest import WorkerProcess, token, until

APP = """
from greenroom.agents import WorkerOptions, cli

async def entry(ctx):
    await ctx.connect()
    async def bye(data):
        ctx.shutdown("the user said goodbye")
        return "ok"
    ctx.room.local_participant.register_rpc_method("bye", bye)

if __name__ == "__main__":
    cli.run_app(WorkerOptions(entrypoint_fnc=entry, agent_name="helper", num_idle_processes=1, load_threshold=9.0))
"""


class Gate:
    """A TCP proxy in front of the worker's signalling: it can be cut, and it can swallow what the worker says."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.swallow = False
        self.tasks: set[asyncio.Task] = set()
        self.writers: list[asyncio.StreamWriter] = []

    async def open(self) -> int:
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers += [writer, up_writer]
        for source, sink, up in ((reader, up_writer, True), (up_reader, writer, False)):
            task = asyncio.create_task(self._pump(source, sink, up))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if not (up and self.swallow):
                    writer.write(data)
        writer.close()

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def close(self) -> None:
        self.server.close()
        self.cut()
        for task in list(self.tasks):
            task.cancel()


@pytest.fixture
async def gate(room_server) -> AsyncIterator[Gate]:
    gate = Gate(int(room_server.url.rsplit(":", 1)[1]))
    gate.port = await gate.open()
    yield gate
    await gate.close()


@contextlib.asynccontextmanager
async def worker_at(url: str, app: Path) -> AsyncIterator[WorkerProcess]:
    await asyncio.to_thread(app.write_text, APP)
    keys = {"LIVEKIT_URL": url, "LIVEKIT_API_KEY": DEV_KEY, "LIVEKIT_API_SECRET": DEV_SECRET, "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "greenroom.agents.run", str(app), "start"),
        env={**os.environ, **keys},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    worker = WorkerProcess(process)
    try:
        await until(lambda: "registered as" in worker.text, "the worker registers", 30)
        yield worker
    finally:
        await worker.stop()


class Caller:
    """Somebody in the room who sees which agents come."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self.came: list[str] = []
        self.room.on("participant_connected", lambda participant: self.came.append(participant.identity))

    async def call(self, server: RoomServer, name: str) -> None:
        await self.room.connect(server.url, token("caller", name))
        await server.dispatcher.create(CreateAgentDispatchRequest(agent_name="helper", room=name))
        await until(lambda: self.came, "the agent comes")
        await until(lambda: self._state(server, name) == agent.JS_RUNNING, "its job runs")

    def _state(self, server: RoomServer, name: str) -> int:
        return jobs(server, name)[0].state.status

    async def bye(self, server: RoomServer, name: str) -> None:
        to = jobs(server, name)[0].state.participant_identity
        with contextlib.suppress(rtc.RpcError):  # the agent may have left before its answer has
            await self.room.local_participant.perform_rpc(
                destination_identity=to, method="bye", payload="", response_timeout=15
            )


def jobs(server: RoomServer, name: str) -> list[agent.Job]:
    return [job for dispatch in server.dispatcher.listed(name) for job in dispatch.state.jobs]


async def one_success(server: RoomServer, caller: Caller, name: str) -> None:
    await until(lambda: jobs(server, name)[0].state.status == agent.JS_SUCCESS, "the job is booked a success")
    (job,) = jobs(server, name)
    assert (job.state.error, caller.came) == ("", [job.state.participant_identity])


async def test_a_job_that_ends_after_its_worker_s_socket_broke_is_a_success(tmp_path, room_server, gate):
    async with worker_at(f"ws://127.0.0.1:{gate.port}", tmp_path / "app.py") as worker:
        caller = Caller()
        await caller.call(room_server, "blip")
        gate.cut()
        await until(lambda: worker.text.count("registered as") == 2, "the worker registers again")
        await caller.bye(room_server, "blip")
        await one_success(room_server, caller, "blip")
        await caller.room.disconnect()


async def test_a_result_that_was_handed_to_a_dead_connection_is_told_again(tmp_path, room_server, gate):
    async with worker_at(f"ws://127.0.0.1:{gate.port}", tmp_path / "app.py") as worker:
        caller = Caller()
        await caller.call(room_server, "lost")
        gate.swallow = True
        await caller.bye(room_server, "lost")
        await until(lambda: "ended" in worker.text, "the worker sees the job end and tells nobody")
        gate.swallow = False
        gate.cut()
        await one_success(room_server, caller, "lost")
        await caller.room.disconnect()


async def test_a_worker_that_drains_comes_back_to_tell_the_end(tmp_path, room_server, gate):
    async with worker_at(f"ws://127.0.0.1:{gate.port}", tmp_path / "app.py") as worker:
        caller = Caller()
        await caller.call(room_server, "drain")
        worker.process.send_signal(signal.SIGTERM)
        await until(lambda: "waiting for the job AJ_" in worker.text, "it drains")
        gate.cut()
        await until(lambda: worker.text.count("registered as") == 2, "the worker registers again")
        await caller.bye(room_server, "drain")
        await one_success(room_server, caller, "drain")
        assert await asyncio.wait_for(worker.process.wait(), 20) == 0
        await caller.room.disconnect()


async def test_jobs_of_a_server_that_was_restarted_end_and_its_rooms_get_one_agent(tmp_path):
    async with RoomServer(ServerConfig.dev(port=0, rtc=RtcConfig(udp_port=0))) as first:
        port = int(first.url.rsplit(":", 1)[1])
        stack = contextlib.AsyncExitStack()
        worker = await stack.enter_async_context(worker_at(f"ws://127.0.0.1:{port}", tmp_path / "app.py"))
        caller = Caller()
        await caller.call(first, "again")
        await caller.room.disconnect()
    async with stack, RoomServer(ServerConfig.dev(port=port, rtc=RtcConfig(udp_port=0))) as second:
        await until(lambda: worker.text.count("registered as") == 2, "the worker registers at the new server", 30)
        caller = Caller()
        await caller.call(second, "again")
        # The job of the former life has ended, however it took that, and the worker has one.
        await until(lambda: worker.text.count(" ended") >= 1, "the old job ends", 30)
        mine = jobs(second, "again")[0].state.participant_identity
        people = second.manager.get_room("again").participants
        await until(lambda: set(people) == {"caller", mine}, "one agent is left")
        await caller.bye(second, "again")
        await until(lambda: jobs(second, "again")[0].state.status == agent.JS_SUCCESS, "the job is a success")
        assert len(jobs(second, "again")) == 1
        await caller.room.disconnect()
