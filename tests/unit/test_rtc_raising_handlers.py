"""A handler that raises, whatever and at whatever event, disturbs nobody else."""

import asyncio
import logging
from typing import Any, get_args
from unittest.mock import MagicMock

import pytest
from livekit.protocol import models, rtc as proto

from greenroom import rtc
from greenroom.rtc.room import EventTypes
from greenroom.rtc.track import RemoteTrackCore
from greenroom.server.app import RoomServer
from tests.conftest import token, until


@pytest.mark.parametrize("error", [TypeError, ValueError, asyncio.CancelledError])
@pytest.mark.parametrize("event", get_args(EventTypes))
def test_the_others_hear_of_it(event: Any, error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    room = rtc.Room()
    heard: list[str] = []

    def raises(*_: Any) -> None:
        raise error("by the test")

    room.on(event, raises)
    room.on(event, lambda *_: heard.append("second"))
    room.on(event, lambda: [].append())  # type: ignore[call-arg]
    room.on(event, lambda *_: heard.append("last"))
    with caplog.at_level(logging.ERROR):
        room._core.emit(event)
    assert heard == ["second", "last"]
    assert error.__name__ in caplog.text


def test_emit_raises_a_type_error_when_all_have_run() -> None:
    emitter: rtc.EventEmitter[str] = rtc.EventEmitter()
    heard: list[int] = []
    emitter.on("a", lambda x, y: None)
    emitter.on("a", heard.append)
    with pytest.raises(TypeError):
        emitter.emit("a", 1)
    assert heard == [1]


@pytest.fixture
async def raising(room_server: RoomServer) -> Any:
    room = rtc.Room()
    for event in get_args(EventTypes):
        room.on(event, lambda *_: None + 1)  # type: ignore[operator]
    await room.connect(room_server.url.replace("http", "ws", 1), token("alice"))
    yield room
    await room.disconnect()


@pytest.mark.parametrize("end", ["by us", "by the server"])
async def test_the_end_is_told(room_server: RoomServer, raising: rtc.Room, end: str) -> None:
    ended: list[Any] = []
    raising.on("disconnected", ended.append)
    if end == "by us":
        await raising.disconnect()
    else:
        await room_server.manager.delete_room("test")
    await until(lambda: ended, "disconnected")
    assert not raising.isconnected()


async def test_a_reconnect_with_raising_handlers(room_server: RoomServer, raising: rtc.Room) -> None:
    back: list[str] = []
    raising.on("reconnected", lambda: back.append("again"))
    await raising.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT)
    await until(lambda: len(back) == 1, "resumed")
    await raising.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
    await until(lambda: len(back) == 2, "joined anew")


async def test_a_frame_processor_that_raises_does_not_keep_the_track_out(caplog: pytest.LogCaptureFixture) -> None:
    class Processor(rtc.FrameProcessor[rtc.AudioFrame]):
        enabled = True  # type: ignore[assignment]

        def _process(self, frame: rtc.AudioFrame) -> rtc.AudioFrame:
            return frame

        def _close(self) -> None: ...

        def _on_stream_info_updated(self, **_: Any) -> None:
            raise ValueError("by the test")

    class Transport:
        class peer:
            receive_audio = MagicMock()

    track = RemoteTrackCore("TR_a", "mic", rtc.TrackKind.KIND_AUDIO)
    track.connect(Transport(), "0")  # type: ignore[arg-type]
    stream = rtc.AudioStream(track.view, noise_cancellation=Processor())
    room = rtc.Room()
    room._core.state.joined(
        proto.JoinResponse(room=models.Room(sid="RM_1"), participant=models.ParticipantInfo(sid="PA_me", identity="me"))
    )
    with caplog.at_level(logging.ERROR):
        track.set_room(room._core)
    assert track.room is room._core
    assert "by the test" in caplog.text
    await stream.aclose()
