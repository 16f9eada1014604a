"""Two paths to the same end: whatever is under way when a session is ended, its client is told why and does not come back in.

Races are run by a schedule: the end comes after each number of turns of the event loop that an offer takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from livekit.protocol import models, rtc

from greenroom.server import endings
from greenroom.server.app import RoomServer
from greenroom.server.endings import Endings
from greenroom.server.session import handle_request
from tests.conftest import token

from .server_client import Client, OfferText, client, wrap
from .server_fakes import FakeMediaServer

Reason = models.DisconnectReason
Action = rtc.LeaveRequest.Action


async def kick(server: RoomServer) -> None:
    server.manager.rooms["test"].remove_participant("alice")


async def delete(server: RoomServer) -> None:
    await server.manager.delete_room("test")


ENDS: dict[str, tuple[Callable[[RoomServer], Any], int]] = {
    "kicked": (kick, Reason.PARTICIPANT_REMOVED),
    "room deleted": (delete, Reason.ROOM_DELETED),
}


@asynccontextmanager
async def socket(server: RoomServer, sid: str, *, reconnect: bool) -> AsyncIterator[rtc.SignalResponse]:
    """Come back on a socket of its own. Yields the first message."""
    request = rtc.JoinRequest(client_info=models.ClientInfo(protocol=16), participant_sid=sid, reconnect=reconnect)
    query = {"access_token": token("alice"), "join_request": wrap(request)}
    async with aiohttp.ClientSession(server.url) as http, http.ws_connect("/rtc/v1", params=query) as ws:
        async with asyncio.timeout(5):
            yield rtc.SignalResponse.FromString(await ws.receive_bytes())


def long_offer(one: Client) -> rtc.SignalRequest:
    """Read in several pieces."""
    offer = OfferText(audios=40, videos=40)
    offer.publish("audio", "mic")
    del one
    return rtc.SignalRequest(offer=rtc.SessionDescription(type="offer", sdp=str(offer), id=77))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("turns", range(12))
async def test_an_end_while_an_offer_is_under_way_is_the_last_word(
    server: RoomServer, media: FakeMediaServer, end: str, turns: int
) -> None:
    act, reason = ENDS[end]
    async with client(server, media, "alice") as alice:
        await alice.add_track("mic")
        participant = server.manager.rooms["test"].participants["alice"]
        number = participant.primary.number
        handling = asyncio.create_task(handle_request(participant, long_offer(alice)))
        for _ in range(turns):
            await asyncio.sleep(0)
        await act(server)
        # Its media is over too, which clients may notice first; and the core may still have something to say of it.
        for kind in ("lost", "failed"):
            media.event(kind, number, "closed")
        await handling
        leave = await alice.expect("leave")
        assert (leave.reason, leave.action) == (reason, Action.DISCONNECT)
        message = await asyncio.wait_for(alice.ws.receive(), 5)
        assert message.type == aiohttp.WSMsgType.CLOSE, "nothing follows it"
        for reconnect in (True, False):
            async with socket(server, alice.sid, reconnect=reconnect) as first:
                assert (first.leave.reason, first.leave.action) == (reason, Action.DISCONNECT)
        assert "alice" not in (server.manager.rooms["test"].participants if end == "kicked" else ())
        assert ("test" in server.manager.rooms) == (end == "kicked"), "a deleted room does not come back"


@pytest.mark.parametrize("end", ENDS)
async def test_an_end_after_the_client_was_told_to_join_anew_holds(
    server: RoomServer, media: FakeMediaServer, end: str
) -> None:
    act, reason = ENDS[end]
    async with client(server, media, "alice") as alice:
        media.event("failed", server.manager.rooms["test"].participants["alice"].primary.number, "broken")
        assert (await alice.expect("leave")).action == Action.RECONNECT
        await act(server)
        async with socket(server, alice.sid, reconnect=False) as first:
            assert (first.leave.reason, first.leave.action) == (reason, Action.DISCONNECT)


async def test_who_was_replaced_does_not_replace_its_successor(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as one, client(server, media, "alice") as two:
        async with socket(server, one.sid, reconnect=True) as first:
            assert (first.leave.reason, first.leave.action) == (Reason.DUPLICATE_IDENTITY, Action.DISCONNECT)
        assert server.manager.rooms["test"].participants["alice"].sid == two.sid
        # Joining anew is another matter: a client whose answer was lost replaces its own session.
        async with socket(server, one.sid, reconnect=False) as first:
            assert first.HasField("join")


async def test_an_accident_is_no_decision(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        server.manager.rooms["test"].participants["alice"].close(Reason.CONNECTION_TIMEOUT)
        async with socket(server, alice.sid, reconnect=True) as first:
            assert (first.leave.reason, first.leave.action) == (Reason.STATE_MISMATCH, Action.RECONNECT)
        async with socket(server, alice.sid, reconnect=False) as first:
            assert first.HasField("join")


async def test_who_was_kicked_may_be_let_in_again(server: RoomServer, media: FakeMediaServer) -> None:
    """Tokens decide about that: only the kicked session does not come back by itself."""
    async with client(server, media, "alice"):
        await kick(server)
    async with client(server, media, "alice") as again:
        assert again.joined.participant.identity == "alice"


def test_endings_are_kept_for_a_while_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "MOST", 3)
    some = Endings()
    for number in range(5):
        some.add(f"PA_{number}", Reason.ROOM_DELETED, float(number))
    assert len(some) == 3 and some.of_resumed("PA_1") is None and some.of_resumed("PA_4") == Reason.ROOM_DELETED
    some.add("PA_5", Reason.SIGNAL_CLOSE, 100.0)
    assert len(some) == 0, "old ones go, and an accident is not kept"
