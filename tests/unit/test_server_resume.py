"""Coming back: resume, full reconnect, and what happens when nobody comes."""

from __future__ import annotations

import asyncio

import pytest
from livekit.protocol import models, rtc

from greenroom.server.app import RoomServer
from tests.conftest import until

from .server_client import Client, OfferText, client
from .server_fakes import FakeMediaServer

Reason = models.DisconnectReason
Action = rtc.LeaveRequest.Action


def resume(server: RoomServer, media: FakeMediaServer, sid: str, **options: object):
    return client(
        server, media, "alice", connected=False, reconnect=True, participant_sid=sid, publisher_offer=None, **options
    )


async def lose_socket(server: RoomServer, one: Client) -> None:
    await one.ws.close()
    participant = server.manager.rooms["test"].participants["alice"]
    await until(lambda: not participant.connected_signal, "the server notices the lost socket")


async def test_resume_keeps_the_session(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "bob") as bob, client(server, media, "alice") as alice:
        info = await alice.publish("mic")
        await lose_socket(server, alice)
        async with resume(server, media, alice.sid) as again:
            first = again.seen[0]
            assert first.WhichOneof("message") == "reconnect" and first.reconnect.server_info.protocol == 17
            update = await again.expect("update")
            assert {p.identity for p in update.participants} == {"alice", "bob"}, "everybody, and oneself"
            assert (await again.expect("room_update")).room.name == "test"
            published = rtc.TrackPublishedResponse(cid="mic", track=info)
            await again.send(sync_state=rtc.SyncState(publish_tracks=[published]))
            assert "leave" not in await again.settle()
            assert server.manager.rooms["test"].participants["alice"].sid == alice.sid
            again.offer = alice.offer
            again.offer.ufrag = "efgh"
            answer = await again.negotiate()
            assert answer.media[0].ice_ufrag != alice.answer.media[0].ice_ufrag, "an ICE restart is answered with one"
            assert media.restarts
            assert bob.joined


async def test_last_message_seq_tells_what_arrived(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        packet = models.DataPacket(user=models.UserPacket(payload=b"x"), sequence=9)
        number = server.manager.rooms["test"].participants["alice"].primary.number
        media.event("data", number, "_reliable", packet.SerializeToString(), True)
        await alice.settle()
        await lose_socket(server, alice)
        async with resume(server, media, alice.sid) as again:
            assert again.seen[0].reconnect.last_message_seq == 9


@pytest.mark.parametrize("sid", ["PA_unknown00000", ""])
async def test_resume_of_nobody_means_a_full_reconnect(server: RoomServer, media: FakeMediaServer, sid: str) -> None:
    async with resume(server, media, sid) as again:
        leave = again.seen[0].leave
        assert (leave.reason, leave.action) == (Reason.STATE_MISMATCH, Action.RECONNECT)
        assert again.seen[0].WhichOneof("message") == "leave"


async def test_old_clients_read_can_reconnect(server: RoomServer, media: FakeMediaServer) -> None:
    async with resume(server, media, "PA_unknown00000", protocol=12) as again:
        assert again.seen[0].leave.can_reconnect


async def test_unknown_track_in_sync_state_means_a_full_reconnect(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        track = models.TrackInfo(sid="TR_unknown")
        published = rtc.TrackPublishedResponse(cid="mic", track=track)
        await alice.send(sync_state=rtc.SyncState(publish_tracks=[published]))
        leave = await alice.expect("leave")
        assert (leave.reason, leave.action) == (Reason.STATE_MISMATCH, Action.RECONNECT)


async def test_sync_state_restores_subscriptions_and_paused_tracks(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "bob") as bob:
        mic = await bob.publish("mic")
        cam = await bob.publish("cam", "video")
        async with client(server, media, "alice") as alice:
            unwanted = rtc.UpdateSubscription(track_sids=[mic.sid], subscribe=False)
            await alice.send(sync_state=rtc.SyncState(subscription=unwanted, track_sids_disabled=[cam.sid]))
            await alice.settle()
            number = server.manager.rooms["test"].participants["alice"].primary.number
            (sender,) = media.senders[number]
            assert sender.kind == "video" and sender.paused


async def test_full_reconnect_has_a_new_sid_and_publishes_again(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "bob") as bob, client(server, media, "alice") as alice:
        await alice.publish("mic")
        offer = OfferText()
        offer.publish("audio", "mic")
        async with client(server, media, "alice", offer=offer) as again:
            info = await again.add_track("mic")
            assert again.sid != alice.sid
            update = await bob.expect("update", lambda u: any(p.sid == again.sid and p.tracks for p in u.participants))
            assert update.participants[0].tracks[0].sid == info.sid


async def test_lost_socket_keeps_an_active_participant(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await lose_socket(server, alice)
        assert "alice" in server.manager.rooms["test"].participants


async def test_lost_socket_before_media_ends_the_session(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", connected=False) as alice:
        await alice.ws.close()
        room = server.manager.rooms["test"]
        await until(lambda: not room.participants, "the session ends")


async def test_lost_media_asks_to_resume_and_then_ends(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.server.participant.RETURN_TIMEOUT", 0.05)
    async with client(server, media, "alice") as alice:
        room = server.manager.rooms["test"]
        media.event("lost", room.participants["alice"].primary.number)
        leave = await alice.expect("leave")
        assert leave.action == Action.RESUME
        await until(lambda: not room.participants, "nobody came back")


async def test_failed_handshake_asks_for_a_full_reconnect(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", connected=False) as alice:
        participant = server.manager.rooms["test"].participants["alice"]
        media.event("failed", participant.primary.number, "fingerprint does not match")
        assert (await alice.expect("leave")).action == Action.RECONNECT


async def test_session_that_never_connects_is_removed(server: RoomServer, media: FakeMediaServer) -> None:
    import dataclasses

    server.manager.settings = dataclasses.replace(server.manager.settings, join_timeout=0.05)
    async with client(server, media, "alice", connected=False) as alice:
        assert (await alice.expect("leave")).reason == Reason.JOIN_FAILURE


async def test_simulated_disconnect_on_resume_lets_the_next_one_through(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with client(server, media, "alice") as alice:
        await alice.send(simulate=rtc.SimulateScenario(disconnect_signal_on_resume=True))
        await alice.ws.receive(timeout=5)
        async with resume(server, media, alice.sid) as first:
            assert first.seen[0].WhichOneof("message") == "reconnect"
            async with asyncio.timeout(5):
                while not first.ws.closed:
                    await first.ws.receive()
        async with resume(server, media, alice.sid) as second:
            assert second.seen[0].WhichOneof("message") == "reconnect"
            await second.settle()
