"""Fixtures that every kind of test may use."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from greenroom.api import AccessToken, LiveKitAPI, VideoGrants
from greenroom.server.app import RoomServer
from greenroom.server.config import DEV_KEY, DEV_SECRET, RtcConfig, ServerConfig
from tests import virtual_time

# How long one example takes says more about the machine than about the code.
settings.register_profile("greenroom", deadline=None)
settings.load_profile("greenroom")

ROOT = Path(__file__).resolve().parents[1]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    if item.get_closest_marker("virtual_time"):
        return {"virtual": virtual_time.VirtualTimeLoop}
    return {"real": asyncio.SelectorEventLoop}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Tells of a test that did not end what each of its tasks waited for: the event loop's own stack says nothing."""
    report: Any = yield  # type: ignore[misc]
    if call.when == "call" and call.excinfo is not None and "pytest-timeout" in str(call.excinfo.value):
        runner = getattr(item, "funcargs", {}).get("_function_scoped_runner")
        if runner is not None:
            told = "\n\n".join(where_it_waits(task) for task in asyncio.all_tasks(runner.get_loop()))
            report.sections.append(("Tasks that were waiting", told))
    return report


def where_it_waits(task: asyncio.Task[Any]) -> str:
    """The task's frames, outermost first: its own `get_stack` gives just one."""
    lines = [repr(task)]
    waits: Any = task.get_coro()
    while frame := getattr(waits, "cr_frame", None) or getattr(waits, "gi_frame", None):
        lines.append(f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        waits = getattr(waits, "cr_await", None) or getattr(waits, "gi_yieldfrom", None)
    return "\n".join(lines)


def token(identity: str, room: str = "test", **grants: Any) -> str:
    """A join token of the development key."""
    allowed = VideoGrants(room_join=True, room=room, can_update_own_metadata=True, **grants)
    return AccessToken(DEV_KEY, DEV_SECRET).with_identity(identity).with_name(identity).with_grants(allowed).to_jwt()


async def until(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    """Wait until `condition()` (plain or async) gives something true, and return that. Fails with `what` in its words."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if loop.time() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.05)


@pytest.fixture(autouse=True)
def clocks_of_virtual_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the loop's time is virtual, `time.monotonic()` is that time: both are one clock outside the tests too."""
    if request.node.get_closest_marker("virtual_time"):
        monkeypatch.setattr(time, "monotonic", virtual_time.monotonic)


@pytest.fixture
async def room_server() -> AsyncIterator[RoomServer]:
    """A real room server with real media on free loopback ports, in development mode."""
    async with RoomServer(ServerConfig.dev(port=0, rtc=RtcConfig(udp_port=0))) as server:
        yield server


@pytest.fixture
async def api(room_server: RoomServer) -> AsyncIterator[LiveKitAPI]:
    """Our own API client for it."""
    async with LiveKitAPI(room_server.url, DEV_KEY, DEV_SECRET) as client:
        yield client


class WorkerProcess:
    """A worker that serves an app file, in a process of its own as in production.

    Its output is that of several processes. An app whose output is looked for prints each line as one string: unbuffered,
    `print(a, b)` is four writes, and another process's line may come between them.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.output.append(line.decode(errors="replace").rstrip())

    @property
    def text(self) -> str:
        return "\n".join(self.output)

    async def stop(self) -> int:
        """SIGTERM and wait. Returns the exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            return await asyncio.wait_for(self.process.wait(), 40)
        finally:
            if self.process.returncode is None:
                self.process.kill()
            await self._reader


@pytest.fixture
async def start_worker(room_server: RoomServer) -> AsyncIterator[Callable[..., Awaitable[WorkerProcess]]]:
    """`await start_worker(app_file)`: a registered worker for `room_server`; stopped after the test."""
    started: list[WorkerProcess] = []

    async def start(app: Path, *arguments: str, wait: bool = True) -> WorkerProcess:
        environment = {
            **os.environ,
            "LIVEKIT_URL": room_server.url.replace("http", "ws", 1),
            "LIVEKIT_API_KEY": DEV_KEY,
            "LIVEKIT_API_SECRET": DEV_SECRET,
            "PYTHONUNBUFFERED": "1",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "greenroom.agents.run", str(app), *(arguments or ("dev",))),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        worker = WorkerProcess(process)
        started.append(worker)
        if wait:
            await until(
                lambda: "registered as" in worker.text or process.returncode is not None, "the worker registers", 30
            )
            assert process.returncode is None, worker.text
        return worker

    yield start
    for worker in started:
        await worker.stop()
