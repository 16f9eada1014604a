"""Nothing that one participant sends holds up another: counts of work done, not times."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from livekit.protocol import models, rtc

from greenroom.server import budgets, events
from greenroom.server.app import RoomServer
from greenroom.server.config import LimitConfig, ServerConfig
from greenroom.server.turns import Turns
from tests.conftest import until

from .server_client import Client, OfferText, client
from .server_fakes import FakeMediaServer

Reason = models.DisconnectReason
State = models.ParticipantInfo.State
UNLIMITED = {
    name: 0
    for name in ("messages", "message_bytes", "offers", "subscriptions", "updates", "track_requests", "state_bytes")
}


@asynccontextmanager
async def serving(media: FakeMediaServer, **limits: Any) -> AsyncIterator[RoomServer]:
    async with RoomServer(ServerConfig.dev(port=0, limit=LimitConfig(**limits)), media=media) as server:
        yield server


def offer(number: int) -> bytes:
    description = rtc.SessionDescription(type="offer", sdp=str(OfferText()), id=number)
    return rtc.SignalRequest(offer=description).SerializeToString()


async def send(one: Client, frame: bytes) -> None:
    """The same again and again until the socket ends."""
    with contextlib.suppress(ConnectionError):
        while True:
            await one.ws.send_bytes(frame)
            await asyncio.sleep(
                0
            )  # sending alone waits only when megabytes are on their way, and the server is in here too


@asynccontextmanager
async def flooding(*clients: Client, frame: bytes = b"") -> AsyncIterator[None]:
    """Each of them sends one offer after the other, and reads nothing but what makes room."""

    async def drain(one: Client) -> None:
        async for _ in one.ws:
            pass

    frame = frame or offer(1)
    tasks = [asyncio.create_task(work) for one in clients for work in (send(one, frame), drain(one))]
    try:
        await asyncio.sleep(0.1)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Answered:
    """Counts the answers that participants were given."""

    def __init__(self, server: RoomServer, monkeypatch: pytest.MonkeyPatch) -> None:
        from greenroom.server.negotiation import Negotiation

        self.by_identity: Counter[str] = Counter()
        take = Negotiation.take_offer

        def counted(negotiation: Negotiation, *offered: Any) -> None:
            self.by_identity[negotiation.participant.identity] += 1
            take(negotiation, *offered)

        monkeypatch.setattr(Negotiation, "take_offer", counted)

    @property
    def total(self) -> int:
        return self.by_identity.total()


async def test_a_request_waits_for_a_few_offers_however_many_come(
    media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(media, **UNLIMITED) as server, contextlib.AsyncExitStack() as stack:
        loud = [await stack.enter_async_context(client(server, media, f"loud{n}", room="a")) for n in range(6)]
        answered = Answered(server, monkeypatch)
        session = await stack.enter_async_context(aiohttp.ClientSession(server.url))
        async with session.get("/") as response:
            assert response.status == 200
        async with flooding(*loud):
            most = 0
            for _ in range(20):
                before = answered.total
                async with session.get("/") as response:
                    assert response.status == 200
                most = max(most, answered.total - before)
        assert answered.total > 20, "they did flood"
        # A request takes about ten turns of the event loop (the client's are among them), and an offer has one each.
        assert most <= 25
        assert max(answered.by_identity.values()) - min(answered.by_identity.values()) <= 3, "they take turns"


class WatchedTurns(Turns):
    """Notes how many turns others had while somebody waited for one."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: dict[str, list[int]] = {}

    async def take(self, group: Any) -> None:
        before = self.taken
        await super().take(group)
        self.waits.setdefault(group, []).append(self.taken - before - 1)


async def test_a_rooms_offers_wait_for_one_of_each_other_room(media: FakeMediaServer) -> None:
    async with serving(media, **UNLIMITED) as server, contextlib.AsyncExitStack() as stack:
        loud = [await stack.enter_async_context(client(server, media, f"loud{n}", room="a")) for n in range(8)]
        calm = await stack.enter_async_context(client(server, media, "calm", room="b"))
        turns = server.manager.turns = WatchedTurns()
        async with flooding(*loud, frame=offer(1)):
            for number in range(3):
                await calm.publish(f"mic{number}")
        assert max(turns.waits["a"]) >= 6, "eight of one room wait for each other"
        assert max(turns.waits["b"]) <= 2, "and the other room for one of them"


async def test_who_is_a_little_quick_only_waits(media: FakeMediaServer) -> None:
    async with serving(media, offers=2) as server, client(server, media, "alice", room="a") as alice:
        for number in range(2, 13):
            await alice.ws.send_bytes(offer(number))
        ids = [(await alice.expect("answer")).id for _ in range(2, 13)]
        assert ids == list(range(2, 13)), "every offer has its answer, in order"
        assert server.manager.limited["held_offers"] >= 1
        assert set(server.manager.limited) == {"held_offers"}


@pytest.mark.parametrize(
    ("limits", "frame", "budget"),
    [
        ({"offers": 2}, b"", "offers"),
        ({"messages": 20}, rtc.SignalRequest(ping=1).SerializeToString(), "messages"),
        ({"updates": 2}, rtc.SignalRequest(mute=rtc.MuteTrackRequest(sid="TR_x")).SerializeToString(), "updates"),
        (
            {"subscriptions": 20},
            rtc.SignalRequest(subscription=rtc.UpdateSubscription(track_sids=["TR_x"] * 160)).SerializeToString(),
            "subscriptions",
        ),
        ({"message_bytes": 2000}, b"\x08\x01" * 3000, "message_bytes"),
    ],
)
async def test_who_floods_is_sent_away_and_told_why(
    media: FakeMediaServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limits: dict[str, int],
    frame: bytes,
    budget: str,
) -> None:
    monkeypatch.setattr(budgets, "PATIENCE", 0.5)
    async with (
        serving(media, **limits) as server,
        client(server, media, "bob", room="a") as bob,
        client(server, media, "loud", room="a") as loud,
    ):
        task = asyncio.create_task(send(loud, frame or offer(1)))
        leave = await loud.expect("leave")
        async with asyncio.timeout(5):
            end = await loud.ws.receive()
            while end.type == aiohttp.WSMsgType.BINARY:
                end = await loud.ws.receive()
            await task
        assert (leave.reason, leave.action) == (Reason.PARTICIPANT_REMOVED, rtc.LeaveRequest.Action.DISCONNECT)
        assert (end.data, end.extra) == (1008, f"too many {budget.replace('_', ' ')}")
        await bob.expect(
            "update", lambda u: any(p.sid == loud.sid and p.state == State.DISCONNECTED for p in u.participants)
        )
        limited = server.manager.limited
        assert limited[f"flood_{budget}"] == 1 and limited[f"held_{budget}"] >= 2
        lines = [record for record in caplog.records if "loud in a" in record.message and record.levelname == "WARNING"]
        assert len(lines) == 2, "one when it was held back, one when it was sent away"


async def test_a_resumed_session_has_the_budget_that_it_left(media: FakeMediaServer) -> None:
    async with serving(media, offers=1) as server:
        async with client(server, media, "alice") as alice:
            for number in range(2, 6):
                await alice.ws.send_bytes(offer(number))
                await alice.expect("answer")
            sid = alice.sid
        participant = server.manager.rooms["test"].participants["alice"]
        await until(lambda: not participant.connected_signal, "the socket is gone")
        resume = {"reconnect": True, "participant_sid": sid, "publisher_offer": None}
        async with client(server, media, "alice", connected=False, **resume) as again:
            assert again.seen[0].WhichOneof("message") == "reconnect"
            await again.ws.send_bytes(offer(9))
            await again.expect("answer")
        assert server.manager.limited["held_offers"] == 1


async def test_pings_of_the_socket_count_as_messages(media: FakeMediaServer) -> None:
    async with serving(media, messages=50) as server, client(server, media, "alice") as alice:
        for _ in range(210):
            await alice.ws.ping()
        await alice.settle()
        assert server.manager.limited["held_messages"] >= 5


async def test_changes_beyond_the_budget_are_told_together(media: FakeMediaServer) -> None:
    async with (
        serving(media, updates=0, state_bytes=10_000) as server,
        client(server, media, "alice") as alice,
        client(server, media, "bob") as bob,
    ):
        await alice.settle()
        await bob.settle()
        start, own = len(bob.seen), len(alice.seen)
        for number in range(50):
            change = rtc.UpdateParticipantMetadata(metadata=f"{number}" + "m" * 8000, request_id=number + 1)
            await alice.send(update_metadata=change)
        await alice.expect("request_response", lambda response: response.request_id == 50)
        await bob.expect("update", lambda u: any(p.metadata.startswith("49m") for p in u.participants))
        told = [p.version for r in bob.seen[start:] for p in r.update.participants if p.sid == alice.sid]
        assert told == sorted(set(told)) and len(told) < 12
        echoed = sum(any(p.sid == alice.sid for p in r.update.participants) for r in alice.seen[own:])
        assert echoed >= 50, "its own changes are told to itself at once: clients wait for that"
        assert server.manager.limited["state"] > 30


async def test_a_track_is_introduced_before_its_media_whatever_the_budget(media: FakeMediaServer) -> None:
    async with (
        serving(media, updates=0, state_bytes=1000) as server,
        client(server, media, "alice") as alice,
        client(server, media, "bob") as bob,
    ):
        for number in range(3):
            await alice.send(update_metadata=rtc.UpdateParticipantMetadata(metadata=f"{number}" + "m" * 8000))
        await alice.settle()
        await bob.settle()
        info = await alice.publish("mic")
        await bob.expect("media_sections_requirement")
        assert any(track.sid == info.sid for r in bob.seen for p in r.update.participants for track in p.tracks)


# --- the server's own offers and requests ----------------------------------------------------------------------------


async def test_the_server_offers_at_a_pace_and_tells_changes_together(media: FakeMediaServer) -> None:
    async with (
        serving(media, server_offers=3, track_requests=0, offers=0) as server,
        client(server, media, "bob", dual=True) as bob,
        client(server, media, "alice") as alice,
    ):
        offers = asyncio.create_task(answering(bob, 30))
        for number in range(30):
            await alice.publish(f"mic{number}")
        sids = {track.sid for track in server.manager.rooms["test"].participants["alice"].tracks.values()}
        async with asyncio.timeout(10):
            sections, count = await offers
        assert sections == sids and len(sids) == 30
        assert count < 25, "not one for each track"


async def answering(bob: Client, tracks: int) -> tuple[set[str], int]:
    """Answer offers until so many tracks are in one. Returns their sids and the number of offers."""
    count = 0
    earlier = [response.offer for response in bob.seen if response.WhichOneof("message") == "offer"]
    while True:
        offered = earlier.pop() if earlier else await bob.expect("offer")
        count += 1
        lines = offered.sdp.replace("a=setup:actpass", "a=setup:active").replace("a=sendonly", "a=recvonly")
        answer = rtc.SessionDescription(type="answer", sdp=lines, id=offered.id)
        await bob.send(answer=answer)
        if len(offered.mid_to_track_id) >= tracks:
            return set(offered.mid_to_track_id.values()), count


async def test_a_client_is_not_asked_for_more_offers_than_it_may_send(
    media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        serving(media, offers=4, track_requests=0) as server,
        client(server, media, "bob") as bob,
        client(server, media, "alice") as alice,
    ):
        server.manager.rooms["test"].participants["alice"].signal_budget = budgets.SignalBudget(
            budgets.Rates(**UNLIMITED)
        )
        answered = 0
        for number in range(24):
            await alice.publish(f"mic{number}")
            requirement = await bob.expect("media_sections_requirement")
            for _ in range(requirement.num_audios):
                bob.offer.add("audio", "recvonly")
            await bob.negotiate()
            answered += 1
        assert not server.manager.limited["held_offers"], "who only does what the server asks for never waits"
        assert answered == 24


# --- data ------------------------------------------------------------------------------------------------------------


def user(text: str) -> bytes:
    return models.DataPacket(user=models.UserPacket(payload=text.encode())).SerializeToString()


def peers(server: RoomServer, room: str, *identities: str) -> list[int]:
    return [server.manager.rooms[room].participants[identity].primary.number for identity in identities]


@pytest.mark.parametrize("label", ["_reliable", "_lossy"])
async def test_a_hundred_thousand_messages_of_one_do_not_hold_up_anothers(
    media: FakeMediaServer, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        serving(media) as server,
        client(server, media, "loud", room="a"),
        client(server, media, "ear", room="a"),
        client(server, media, "alice", room="b"),
        client(server, media, "bob", room="b"),
    ):
        (loud,), (alice, bob) = peers(server, "a", "loud"), peers(server, "b", "alice", "bob")
        queue = server.manager._events
        noise = user("noise")
        media.add_events([("data", loud, label, noise, True)] * 100_000 + [("data", alice, label, user("hi"), True)])
        media.event("connected", bob)
        await until(lambda: any(to == [bob] for to, _, _ in media.sent), "bob has alice's message")
        place = next(index for index, (to, _, _) in enumerate(media.sent) if to == [bob])
        assert place < 2, "they take turns"
        assert all(len(to) == 1 for to, _, _ in media.sent)
        dropped = server.manager.rooms["a"].data.dropped["over_budget"]
        assert dropped > 70_000 and server.manager.limited["data"] == dropped
        assert not server.manager.rooms["b"].data.dropped
        assert queue.waiting <= events.LANE_EVENTS
        assert sum("more data than its budget" in record.message for record in caplog.records) == 1


async def test_a_slice_ends_and_others_come_first(media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SLICE_SECONDS", 60.0)
    async with (
        serving(media) as server,
        client(server, media, "loud", room="a"),
        client(server, media, "ear", room="a"),
        aiohttp.ClientSession(server.url) as session,
    ):
        (loud,) = peers(server, "a", "loud")
        async with session.get("/") as response:
            assert response.status == 200
        media.add_events([("data", loud, "_reliable", user("noise"), True)] * 10_000)
        async with session.get("/") as response:
            assert response.status == 200
        assert len(media.sent) < 3000, "the request was answered while they waited"
        await until(lambda: len(media.sent) == 10_000, "nothing is lost")
        assert not server.manager.rooms["a"].data.dropped


async def test_data_beyond_the_rate_waits_and_pays_for_every_receiver(media: FakeMediaServer) -> None:
    async with serving(media, data_deliveries=100) as server, contextlib.AsyncExitStack() as stack:
        for number in range(11):
            await stack.enter_async_context(client(server, media, f"p{number}"))
        (loud,) = peers(server, "test", "p0")
        media.add_events([("data", loud, "_reliable", user("noise"), True)] * 50)
        await until(lambda: len(media.sent) >= 40, "the burst is through")
        assert len(media.sent) < 50 and server.manager._events.waiting
        await until(lambda: len(media.sent) == 50, "nothing is lost")


async def test_what_was_sent_before_the_end_is_delivered_before_it(media: FakeMediaServer) -> None:
    async with (
        serving(media) as server,
        client(server, media, "alice") as alice,
        client(server, media, "bob") as bob,
    ):
        (number,) = peers(server, "test", "alice")
        media.add_events([("data", number, "_reliable", user("noise"), True)] * 1000 + [("failed", number, "dtls")])
        await alice.expect("leave")
        assert len(media.sent) == 1000
        await bob.settle()


async def test_a_flood_of_reliable_data_ends_the_session(
    media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "PATIENCE", 0.5)
    monkeypatch.setattr(events, "LANE_EVENTS", 100)
    async with serving(media, data_messages=10) as server, client(server, media, "loud") as loud:
        (number,) = peers(server, "test", "loud")

        async def flood() -> None:
            while True:
                media.add_events([("data", number, "_reliable", user("noise"), True)] * 200)
                await asyncio.sleep(0.05)

        task = asyncio.create_task(flood())
        try:
            leave = await loud.expect("leave")
        finally:
            task.cancel()
        assert leave.reason == Reason.PARTICIPANT_REMOVED
        assert server.manager.limited["flood_data"] == 1
        await until(lambda: not server.manager._events.waiting, "what waited is forgotten")


async def test_all_waiting_data_is_bounded_and_shared(media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "TOTAL_BYTES", 100_000)
    async with (
        serving(media, data_messages=1) as server,
        client(server, media, "loud"),
        client(server, media, "alice"),
    ):
        loud, alice = peers(server, "test", "loud", "alice")
        big = user("n" * 1000)
        media.add_events(
            [("data", loud, "_reliable", big, True)] * 300 + [("data", alice, "_reliable", big, True)] * 30
        )
        await until(lambda: len(media.sent) >= 8, "both had their burst")
        dropped = server.manager.rooms["test"].data.dropped["over_budget"]
        waiting = server.manager._events.waiting
        assert dropped + waiting + len(media.sent) == 330
        assert server.manager._events._lanes[server.manager.rooms["test"].participants["alice"]].events
        assert (
            sum(to == [loud] for to, _, _ in media.sent)
            + len(server.manager._events._lanes[server.manager.rooms["test"].participants["alice"]].events)
            == 30
        ), "alice lost nothing"
