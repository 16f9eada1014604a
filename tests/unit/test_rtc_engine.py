"""Engines: one per event loop, a new one after a fork, none before it is needed."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys

import pytest

from greenroom import rtc
from greenroom.rtc import engine as engines
from greenroom.rtc.engine import get_engine

pytest.importorskip("greenroom._native")


async def test_one_engine_per_loop() -> None:
    assert get_engine() is get_engine()


def test_loops_have_engines_of_their_own_and_closed_loops_lose_theirs() -> None:
    async def mine() -> engines.Engine:
        return get_engine()

    first = asyncio.run(mine())
    second = asyncio.run(mine())
    assert first is not second
    assert first not in engines._engines.values()


async def _play() -> None:
    source = rtc.AudioSource(48000, 1, 20)
    for _ in range(10):
        await source.capture_frame(rtc.AudioFrame.create(48000, 1, 480))
    await source.wait_for_playout()
    await source.aclose()


def _child() -> None:
    asyncio.run(asyncio.wait_for(_play(), 10))


def test_a_forked_child_makes_its_own() -> None:
    asyncio.run(_play())
    process = multiprocessing.get_context("fork").Process(target=_child)
    process.start()
    process.join(20)
    try:
        assert process.exitcode == 0
    finally:
        process.kill()
    asyncio.run(_play())


def test_importing_is_light() -> None:
    code = (
        "import sys; from greenroom import rtc; rtc.TrackKind.AUDIO; "
        "heavy = [m for m in ('numpy', 'aiohttp', 'livekit', 'greenroom._native', 'greenroom.server') if m in sys.modules]; "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_the_sdk_never_imports_the_server() -> None:
    code = "import sys; from greenroom import rtc; rtc.preload(); assert 'greenroom.server' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_preloading_starts_no_thread() -> None:
    code = "import os; from greenroom import rtc; rtc.preload(); assert len(os.listdir('/proc/self/task')) == 1"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
