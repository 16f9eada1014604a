"""Cancelling means that it never happened: each public awaitable is cancelled or overtaken at each of its await points."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from greenroom import rtc
from greenroom.rtc.room_core import RoomCore
from greenroom.rtc.track import local_core
from greenroom.server.app import RoomServer
from tests.conftest import token, until

both_modes = pytest.mark.parametrize("dual", [False, True], ids=["single", "dual"])
MANY = 60
"""More await points than anything here has."""


class Steps:
    """Awaits `coroutine`; when it is suspended for the `number`th time, `reached` is called in the next turn."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], number: int, reached: Callable[[], Any]) -> None:
        self.coroutine, self.number, self.reached = coroutine, number, reached
        self.count = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self.coroutine.__await__()
        send: Callable[[], Any] = lambda: inner.send(None)  # noqa: E731
        while True:
            try:
                waits_for = send()
            except StopIteration as done:
                return done.value
            self.count += 1
            if self.count == self.number:
                asyncio.get_running_loop().call_soon(self.reached)
            try:
                yield waits_for
            except BaseException as error:
                send = lambda error=error: inner.throw(error)  # type: ignore[misc]  # noqa: E731
            else:
                send = lambda: inner.send(None)  # noqa: E731


async def cancelled_at(number: int, operation: Coroutine[Any, Any, Any]) -> bool:
    """Run it and cancel it at its `number`th await point. False when it has not so many."""

    async def run() -> Any:
        return await Steps(operation, number, lambda: task.cancel())

    task = asyncio.create_task(run())
    async with asyncio.timeout(20):
        await asyncio.wait([task])
    if task.cancelled():
        return True
    task.result()
    return False


def identities(server: RoomServer) -> set[str]:
    room = server.manager.rooms.get("test")
    return set(room.participants) if room else set()


def url(server: RoomServer) -> str:
    return server.url.replace("http", "ws", 1)


@both_modes
@pytest.mark.parametrize("how", ["cancelled", "cancelled twice", "disconnect", "disconnect cancelled"])
async def test_connect(room_server: RoomServer, monkeypatch: pytest.MonkeyPatch, dual: bool, how: str) -> None:
    original = RoomCore._join
    options = rtc.RoomOptions(single_peer_connection=not dual)
    for number in range(1, MANY):
        room = rtc.Room()
        ended: list[Any] = []
        room.on("disconnected", ended.append)
        helpers: list[asyncio.Task[None]] = []
        tasks: list[asyncio.Task[None]] = []
        was_reached: list[bool] = []

        def reached(
            room: rtc.Room = room, helpers: Any = helpers, was_reached: Any = was_reached, tasks: Any = tasks
        ) -> None:
            was_reached.append(True)
            (connecting,) = tasks
            if how.startswith("cancelled"):
                connecting.cancel()
                if how == "cancelled twice":
                    loop = asyncio.get_running_loop()
                    loop.call_soon(lambda: loop.call_soon(connecting.cancel))
            else:
                helpers.append(asyncio.create_task(room.disconnect()))
                if how == "disconnect cancelled":
                    asyncio.get_running_loop().call_soon(helpers[0].cancel)

        async def counted(self: RoomCore, session: Any, number: int = number, reached: Any = reached) -> None:
            await Steps(original(self, session), number, reached)

        monkeypatch.setattr(RoomCore, "_join", counted)
        connecting = asyncio.create_task(room.connect(url(room_server), token(f"x{number}"), options))
        tasks.append(connecting)
        async with asyncio.timeout(20):
            await asyncio.wait([connecting])
            if helpers:
                await asyncio.wait(helpers)
        monkeypatch.setattr(RoomCore, "_join", original)
        if not was_reached:
            connecting.result()
            assert number > 5, "it was watched"
            await room.disconnect()
            return
        if how.startswith("cancelled"):
            assert connecting.cancelled()
        else:
            assert isinstance(connecting.exception(), rtc.ConnectError)
        assert not room.isconnected() and room._core.session is None
        await until(lambda: not identities(room_server), f"nobody is in the room after {number} steps")
        assert ended == [], "who never was in has not left"
        # And the room object is as good as new.
        if number % 4 == 0:
            await room.connect(url(room_server), token(f"y{number}"), options)
            assert room.isconnected()
            await room.disconnect()
    pytest.fail("it never ended")


@pytest.fixture
async def pair(room_server: RoomServer) -> AsyncIterator[tuple[rtc.Room, rtc.Room]]:
    alice, bob = rtc.Room(), rtc.Room()
    await alice.connect(url(room_server), token("alice"))
    await bob.connect(url(room_server), token("bob"))
    await until(lambda: len(alice.remote_participants) == len(bob.remote_participants) == 1, "they see each other")
    yield alice, bob
    await alice.disconnect()
    await bob.disconnect()


async def test_disconnect(room_server: RoomServer) -> None:
    for number in range(1, MANY):
        room = rtc.Room()
        ended: list[Any] = []
        room.on("disconnected", ended.append)
        await room.connect(url(room_server), token(f"x{number}"))
        cancelled = await cancelled_at(number, room.disconnect())
        assert not room.isconnected()
        await until(lambda: not identities(room_server), "it has left")
        await until(lambda seen=ended: seen, "and said so")
        if number == 1:
            # Others who leave wait for whoever is at it.
            await room.disconnect()
            await room.connect(url(room_server), token("again"))
            await asyncio.gather(room.disconnect(), room.disconnect())
            assert len(ended) == 2
        if not cancelled:
            return
    pytest.fail("it never ended")


@pytest.mark.parametrize("overtaken", [False, True], ids=["cancelled", "overtaken"])
async def test_publish_track(room_server: RoomServer, pair: tuple[rtc.Room, rtc.Room], overtaken: bool) -> None:
    alice, bob = pair

    def server_side() -> dict[str, Any]:
        return room_server.manager.rooms["test"].participants["alice"].tracks

    track = rtc.LocalAudioTrack.create_audio_track("mic", rtc.AudioSource(48000, 1))
    for number in range(1, MANY):
        if overtaken:
            back = asyncio.Event()
            alice.once("reconnected", back.set)

            async def run(number: int = number) -> Any:
                start = lambda: alice._core.session.recovery.start(full=True)  # type: ignore[union-attr]  # noqa: E731
                return await Steps(alice.local_participant.publish_track(track), number, start)

            try:
                async with asyncio.timeout(20):
                    await run()
                stopped = False
            except rtc.PublishTrackError:
                stopped = True
            if stopped:
                async with asyncio.timeout(20):
                    await back.wait()
        else:
            stopped = await cancelled_at(number, alice.local_participant.publish_track(track))
        if not stopped:
            await until(lambda: bob.remote_participants["alice"].track_publications, "bob sees it")
            assert set(server_side()) == set(alice.local_participant.track_publications)
            return
        assert alice.local_participant.track_publications == {}
        await until(lambda: not server_side(), f"nothing is published after {number} steps")
        assert local_core(track).transport is None
    pytest.fail("it never ended")


async def test_publish_data_track(room_server: RoomServer, pair: tuple[rtc.Room, rtc.Room]) -> None:
    alice, bob = pair

    def server_side() -> dict[int, Any]:
        return room_server.manager.rooms["test"].participants["alice"].data_tracks

    for number in range(1, MANY):
        stopped = await cancelled_at(number, alice.local_participant.publish_data_track(name="pose"))
        if not stopped:
            await until(lambda: len(bob._core.data_tracks._remote) == 1, "bob sees this one and no other")
            return
        await until(lambda: not server_side(), f"nothing is published after {number} steps")
    pytest.fail("it never ended")


def operations(alice: rtc.Room, file: Path) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    me = alice.local_participant
    return {
        "set_metadata": lambda: me.set_metadata("m"),
        "set_name": lambda: me.set_name("n"),
        "set_attributes": lambda: me.set_attributes({"a": "b"}),
        "publish_data": lambda: me.publish_data(b"x"),
        "publish_dtmf": lambda: me.publish_dtmf(code=1, digit="1"),
        "perform_rpc": lambda: me.perform_rpc(destination_identity="bob", method="m", payload="x"),
        "send_text": lambda: me.send_text("é" * 100_000, topic="t", compress=False),
        "send_bytes": lambda: me.send_bytes(bytes(200_000), topic="b", compress=False),
        "send_file": lambda: me.send_file(str(file), topic="b", compress=False),
        "get_rtc_stats": lambda: alice.get_rtc_stats(),
        "sid": lambda: _sid(alice),
    }


async def _sid(room: rtc.Room) -> str:
    return await room.sid


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize(
    "name",
    [
        "set_metadata",
        "set_name",
        "set_attributes",
        "publish_data",
        "publish_dtmf",
        "perform_rpc",
        "send_text",
        "send_bytes",
        "send_file",
        "get_rtc_stats",
        "sid",
    ],
)
async def test_everything_else(
    pair: tuple[rtc.Room, rtc.Room], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, busy: bool
) -> None:
    """Nothing stays behind: no waiting request, no open stream; and the next one works."""
    alice, bob = pair
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(500_000))
    if busy:
        # Every packet waits for a turn first, as it does when the channel is full.
        original = alice._core.session.send_packet  # type: ignore[union-attr]

        async def slow(*args: Any, **kwargs: Any) -> None:
            await asyncio.sleep(0)
            await original(*args, **kwargs)

        monkeypatch.setattr(alice._core.session, "send_packet", slow)
    bob.local_participant.register_rpc_method("m", lambda data: data.payload)
    whole, broken = [], []

    async def read(reader: Any, identity: str) -> None:
        try:
            whole.append(len(await reader.read_all()))
        except rtc.StreamError as error:
            broken.append(str(error))

    bob.register_text_stream_handler("t", read)
    bob.register_byte_stream_handler("b", read)
    operation = operations(alice, file)[name]
    for number in itertools.count(1):
        assert number < 200, "it never ended"
        stopped = await cancelled_at(number, operation())
        session = alice._core.session
        assert session is not None and not session._requests
        assert not alice.local_participant._core.rpc._calls
        await until(lambda: not bob._core.streams._open, f"no reader waits after {number} steps")
        if not stopped:
            break
    if name in ("send_text", "send_bytes", "send_file"):
        await until(lambda: whole, "the last one arrived whole")
        assert set(whole) == {{"send_text": 100_000, "send_bytes": 200_000, "send_file": 500_000}[name]}
        assert all("cancelled" in error for error in broken)
    assert alice.isconnected()
    async with asyncio.timeout(10):
        answer = await alice.local_participant.perform_rpc(destination_identity="bob", method="m", payload="fine")
    assert answer == "fine"


async def test_a_writer_whose_write_is_cancelled_goes_on(pair: tuple[rtc.Room, rtc.Room]) -> None:
    alice, bob = pair
    texts: list[str] = []

    async def read(reader: rtc.TextStreamReader, identity: str) -> None:
        texts.append(await reader.read_all())

    bob.register_text_stream_handler("t", read)
    writer = await alice.local_participant.stream_text(topic="t")
    original = alice._core.session.send_packet  # type: ignore[union-attr]
    gate = asyncio.Event()

    async def slow(*args: Any, **kwargs: Any) -> None:
        await gate.wait()
        await original(*args, **kwargs)

    alice._core.session.send_packet = slow  # type: ignore[union-attr, method-assign]
    assert await cancelled_at(1, writer.write("never "))
    gate.set()
    await writer.write("said")
    await writer.aclose()
    await until(lambda: texts == ["said"], "what was cancelled was not sent, the rest was")
