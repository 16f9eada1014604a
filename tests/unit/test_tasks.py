"""Background tasks have one owner: held while they run, heard when they fail, ended with it."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref

import pytest

from greenroom.tasks import Tasks

logger = logging.getLogger("test.tasks")


async def test_a_task_is_held_until_it_is_done() -> None:
    tasks = Tasks(logger)
    gate = asyncio.Event()
    done: list[int] = []

    async def work() -> None:
        await gate.wait()
        done.append(1)

    held = weakref.ref(tasks.start(work(), "work"))
    await asyncio.sleep(0)
    gc.collect()
    assert held() is not None and len(tasks) == 1
    gate.set()
    await asyncio.sleep(0.01)
    assert done == [1] and len(tasks) == 0


async def test_what_a_task_raises_is_logged_under_its_name(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(logger)

    async def work() -> None:
        raise ValueError("no such thing")

    tasks.start(work(), "look it up")
    await asyncio.sleep(0.01)
    assert [record.getMessage() for record in caplog.records] == ["look it up failed"]
    assert "no such thing" in caplog.text


async def test_an_owner_may_take_the_errors_itself(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[str, str]] = []
    tasks = Tasks(logger, on_error=lambda task, error: seen.append((task.get_name(), str(error))))

    async def work() -> None:
        raise ValueError("gone")

    tasks.start(work(), "read")
    await asyncio.sleep(0.01)
    assert seen == [("read", "gone")] and not caplog.records


async def test_closing_ends_what_runs_and_starts_nothing_new() -> None:
    tasks = Tasks(logger)
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)

    tasks.start(work("first"), "first")
    await asyncio.sleep(0)
    assert await tasks.aclose(1)
    assert ended == ["first"] and tasks.closed
    late = tasks.start(work("late"), "late")
    with pytest.raises(asyncio.CancelledError):
        await late
    assert ended == ["first"]
    assert await tasks.aclose(1)


async def test_closing_waits_no_longer_than_it_may() -> None:
    tasks = Tasks(logger)
    gate = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await gate.wait()

    tasks.start(stubborn(), "stubborn")
    await asyncio.sleep(0)
    assert not await tasks.aclose(0.05)
    gate.set()
    assert await tasks.aclose(1)


async def test_a_task_may_close_its_own_owner() -> None:
    tasks = Tasks(logger)

    async def work() -> str:
        await tasks.aclose(1)
        return "ended by itself"

    assert await asyncio.wait_for(tasks.start(work(), "closer"), 2) == "ended by itself"


async def test_futures_and_coroutines_are_taken_alike() -> None:
    tasks = Tasks(logger)
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = tasks.start(future, "future")
    future.set_result(7)
    assert await task == 7
