"""Webhooks: what is sent, how it is signed, and what happens when nobody takes it. Rooms are fakes, the receiver is real."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit.protocol import models

from greenroom.api import AccessToken, TokenVerifier, WebhookReceiver
from greenroom.server import webhooks as webhooks_module
from greenroom.server.auth import Authenticator
from greenroom.server.config import WebhookConfig, WebhookFilter
from greenroom.server.manager import RoomEvent
from greenroom.server.webhooks import Webhooks

WAIT = 5.0


class FakeRoom(SimpleNamespace):
    def to_proto(self) -> models.Room:
        return models.Room(sid=self.sid, name=self.name, metadata="full")


class FakeParticipant(SimpleNamespace):
    def to_proto(self) -> models.ParticipantInfo:
        return models.ParticipantInfo(sid=self.sid, identity=self.identity, name="full")


class FakeManager:
    def on(self, callback):
        self.emit = callback
        return lambda: None


class Receiver:
    """A web server that reads webhooks as an application would."""

    def __init__(self) -> None:
        self.events: asyncio.Queue = asyncio.Queue()
        self.statuses: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._check = WebhookReceiver(TokenVerifier("devkey", "secret"))

    async def handle(self, request: web.Request) -> web.Response:
        await self.gate.wait()
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        assert request.content_type == "application/webhook+json"
        event = self._check.receive(await request.text(), request.headers["Authorization"])
        self.events.put_nowait(event)
        return web.Response()

    async def next(self):
        return await asyncio.wait_for(self.events.get(), WAIT)


@pytest.fixture
async def hooked(monkeypatch):
    monkeypatch.setattr(webhooks_module, "MAX_BACKOFF", 0.01)
    receiver, manager = Receiver(), FakeManager()
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    async with TestServer(app) as server:

        def start(**options) -> Webhooks:
            config = WebhookConfig(urls=[str(server.make_url("/hook"))], **options)
            started.append(Webhooks(config, Authenticator({"devkey": "secret"}), manager))
            return started[-1]

        started: list[Webhooks] = []
        room = FakeRoom(sid="RM_1", name="den")
        ann = FakeParticipant(sid="PA_1", identity="ann")
        yield SimpleNamespace(receiver=receiver, emit=manager_emit(manager), start=start, room=room, ann=ann)
        receiver.gate.set()
        for webhooks in started:
            await webhooks.close()


def manager_emit(manager):
    return lambda *arguments: manager.emit(RoomEvent(*arguments))


async def test_events_are_signed_and_in_order(hooked):
    hooked.start()
    track = models.TrackInfo(sid="TR_1", name="mic")
    hooked.emit("room_started", hooked.room)
    hooked.emit("participant_joined", hooked.room, hooked.ann)
    hooked.emit("participant_active", hooked.room, hooked.ann)
    hooked.emit("track_published", hooked.room, hooked.ann, track)
    hooked.emit("participant_left", hooked.room, hooked.ann)
    hooked.emit("room_finished", hooked.room)
    events = [await hooked.receiver.next() for _ in range(5)]
    assert [event.event for event in events] == [
        "room_started",
        "participant_joined",
        "track_published",
        "participant_left",
        "room_finished",
    ]
    assert all(event.id.startswith("EV_") and event.created_at for event in events)
    started, joined, published = events[:3]
    assert started.room.metadata == "full"
    assert (joined.room.metadata, joined.participant.name) == ("full", "full")
    assert (published.room.name, published.room.metadata) == ("den", ""), "sid and name only"
    assert (published.participant.identity, published.participant.name) == ("ann", ""), "sid and identity only"
    assert published.track.name == "mic"


async def test_a_failing_receiver_is_asked_again(hooked):
    hooked.receiver.statuses = [500, 503, 429]
    hooked.start()
    hooked.emit("room_started", hooked.room)
    assert (await hooked.receiver.next()).event == "room_started"


async def test_what_is_refused_is_dropped_and_counted(hooked):
    hooked.receiver.statuses = [400]
    hooked.receiver.gate.clear()
    hooked.start()
    hooked.emit("room_started", hooked.room)
    hooked.emit("room_finished", hooked.room)
    hooked.receiver.gate.set()
    event = await hooked.receiver.next()
    assert (event.event, event.num_dropped) == ("room_finished", 1)


async def test_what_waits_is_bounded(hooked, monkeypatch):
    monkeypatch.setattr(webhooks_module, "MAX_WAITING", 3)
    hooked.receiver.gate.clear()
    hooked.start()
    for _ in range(10):
        hooked.emit("room_started", hooked.room)
    hooked.receiver.gate.set()
    dropped = [(await hooked.receiver.next()).num_dropped for _ in range(3)]
    assert sum(dropped) == 7


async def test_filters(hooked):
    hooked.start(
        filter_params=WebhookFilter(include_events=["room_started", "room_finished"], exclude_events=["room_started"])
    )
    hooked.emit("room_started", hooked.room)
    hooked.emit("participant_active", hooked.room, hooked.ann)
    hooked.emit("room_finished", hooked.room)
    assert (await hooked.receiver.next()).event == "room_finished"


async def test_closing_delivers_what_waits(hooked):
    webhooks = hooked.start()
    hooked.emit("room_started", hooked.room)
    hooked.emit("room_finished", hooked.room)
    await webhooks.close()
    assert hooked.receiver.events.qsize() == 2


def test_a_receiver_takes_only_what_is_signed_for_this_body():
    receive = WebhookReceiver(TokenVerifier("devkey", "secret")).receive
    token = AccessToken("devkey", "secret").with_sha256("AAAA").to_jwt()
    with pytest.raises(ValueError, match="does not match"):
        receive("{}", token)
    with pytest.raises(ValueError, match="no sha256"):
        receive("{}", AccessToken("devkey", "secret").to_jwt())


async def test_an_error_while_delivering_is_told_and_ends_no_later_event(hooked, monkeypatch, caplog):
    hooked.start()

    def broken(*_args, **_options):
        raise RuntimeError("cannot be written")

    with monkeypatch.context() as patch:
        patch.setattr(webhooks_module, "MessageToJson", broken)
        hooked.emit("room_started", hooked.room)
        async with asyncio.timeout(WAIT):
            while "cannot be written" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert "webhooks of room den to" in caplog.text
    hooked.emit("room_finished", hooked.room)
    assert (await hooked.receiver.next()).event == "room_finished"
