"""What is said right before leaving arrives: data and the goodbye travel on different paths, and the goodbye is faster."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from greenroom import rtc
from greenroom.rtc import room_core
from greenroom.server.app import RoomServer
from tests.conftest import until

from .rtc_pairs import GREENROOM, OFFICIAL, Member, in_room, lose_socket

REPETITIONS = 20
"""The two ways race, so once proves little."""
LONG = "a text of several packets " * 3000
FOREVER = 60.0
SOON = 10.0
"""Seconds: well below `FOREVER`, well above what a slow machine needs."""


@asynccontextmanager
async def busy(seconds: float) -> AsyncIterator[None]:
    """The event loop is held up for so long again and again; 0: not at all."""

    async def hold() -> None:
        while True:
            time.sleep(seconds)  # noqa: ASYNC251 - on purpose
            await asyncio.sleep(0)

    task = asyncio.create_task(hold()) if seconds else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


class Listener(Member):
    """Hears what leavers say."""

    def __init__(self, sdk: str) -> None:
        super().__init__(importlib.import_module(sdk), "bob")
        self.texts: list[str] = []
        self._reading: list[asyncio.Task[None]] = []
        self.room.register_text_stream_handler("bye", self._take)

    def _take(self, reader: Any, _: str) -> None:
        async def read() -> None:
            self.texts.append(await reader.read_all())

        self._reading.append(asyncio.create_task(read()))

    def heard(self, words: bytes) -> bool:
        return any(packet.data == words for (packet,) in self.events("data_received"))


async def join(server: RoomServer, listener: Listener, number: int) -> Member:
    leaver = Member(rtc, f"alice{number}")
    await leaver.connect(server.url)
    await listener.seen("participant_connected", lambda p: p.identity == leaver.identity)
    await until(lambda: "bob" in leaver.room.remote_participants, "the leaver knows the listener")
    return leaver


@pytest.mark.parametrize("held_up", [0.0, 0.03], ids=["idle", "busy"])
@pytest.mark.parametrize("sdk", [GREENROOM, OFFICIAL])
async def test_what_was_sent_last_arrives(room_server: RoomServer, sdk: str, held_up: float) -> None:
    listener = Listener(sdk)
    await listener.connect(room_server.url)
    try:
        for number in range(REPETITIONS):
            leaver = await join(room_server, listener, number)
            words, text = b"farewell %d" % number, f"{number} {LONG if number % 2 else ''}"
            async with busy(held_up):
                await leaver.me.publish_data(words)
                await leaver.me.send_text(text, topic="bye")
                await leaver.room.disconnect()
            await until(lambda words=words: listener.heard(words), f"message {number}", 5)
            await until(lambda text=text: text in listener.texts, f"text {number}", 5)
    finally:
        await listener.room.disconnect()


@pytest.mark.parametrize("held_up", [0.0, 0.03], ids=["idle", "busy"])
@pytest.mark.parametrize("sdk", [GREENROOM, OFFICIAL])
async def test_the_call_that_makes_us_leave_is_answered(room_server: RoomServer, sdk: str, held_up: float) -> None:
    listener = Listener(sdk)
    await listener.connect(room_server.url)
    try:
        for number in range(REPETITIONS):
            leaver = await join(room_server, listener, number)
            leaving: list[asyncio.Task[None]] = []

            async def bye(data: Any, leaver: Member = leaver, leaving: list[asyncio.Task[None]] = leaving) -> str:
                leaving.append(asyncio.create_task(leaver.room.disconnect()))
                await asyncio.sleep(0.02)
                await leaver.me.publish_data(b"while leaving " + data.payload.encode())
                return "good night"

            leaver.me.register_rpc_method("bye", bye)
            async with busy(held_up):
                answer = await listener.me.perform_rpc(
                    destination_identity=leaver.identity, method="bye", payload=str(number)
                )
            assert answer == "good night"
            await asyncio.gather(*leaving)
            await until(lambda number=number: listener.heard(b"while leaving %d" % number), f"message {number}", 5)
    finally:
        await listener.room.disconnect()


async def test_who_has_said_nothing_or_cannot_be_heard_leaves_at_once(
    room_server: RoomServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_core, "HEARD", FOREVER)
    for case in ("silent", "socket lost", "cancelled", "cancelled later", "sent away"):
        async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
            if case != "silent":
                await alice.me.publish_data(b"hello")
                await bob.seen("data_received")
            if case == "socket lost":
                lose_socket(alice)
                await alice.seen("reconnecting")
            async with asyncio.timeout(SOON):
                leaving = asyncio.create_task(alice.room.disconnect())
                if case == "cancelled later":
                    await asyncio.sleep(0.1)
                    assert not leaving.done() and not alice.events("disconnected")
                elif case != "silent":
                    await asyncio.sleep(0)
                if case.startswith("cancelled"):
                    leaving.cancel()
                    await asyncio.wait([leaving])
                    assert leaving.cancelled()
                elif case == "sent away":
                    assert room_server.manager.rooms["test"].remove_participant("alice")
                    await leaving
                else:
                    await asyncio.gather(leaving, alice.room.disconnect())
                await bob.seen("participant_disconnected")
                await alice.room.disconnect()
            assert len(alice.events("disconnected")) == 1, case
            assert not alice.room.isconnected()
            # Nobody waits for what is said to bob last.
            bob.room._core.session.reliable.last_sent = -FOREVER


async def test_a_handler_without_end_is_not_waited_for(
    room_server: RoomServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_core, "LAST_WORDS", 0.2)
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):
        begun = []

        async def endless(data: Any) -> str:
            begun.append(data.payload)
            await asyncio.sleep(FOREVER)
            return ""

        alice.me.register_rpc_method("m", endless)

        def call(payload: str) -> asyncio.Task[str]:
            return asyncio.create_task(
                bob.me.perform_rpc(destination_identity="alice", method="m", payload=payload, response_timeout=FOREVER)
            )

        first = call("first")
        await until(lambda: begun, "the handler runs")
        async with asyncio.timeout(SOON):
            leaving = asyncio.create_task(alice.room.disconnect())
            await asyncio.sleep(0.05)
            second = call("second")
            await leaving
            for answer in (first, second):
                with pytest.raises(rtc.RpcError) as failed:
                    await answer
                assert failed.value.code == rtc.RpcError.ErrorCode.RECIPIENT_DISCONNECTED
        assert begun == ["first"]


async def test_a_handler_may_wait_for_its_own_leaving(room_server: RoomServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_core, "LAST_WORDS", FOREVER)
    async with in_room(room_server, GREENROOM, GREENROOM) as (alice, bob):

        async def bye(data: Any) -> str:
            await alice.room.disconnect()
            return ""

        alice.me.register_rpc_method("bye", bye)
        async with asyncio.timeout(SOON):
            with pytest.raises(rtc.RpcError):
                await bob.me.perform_rpc(destination_identity="alice", method="bye", payload="")
            await alice.seen("disconnected")
