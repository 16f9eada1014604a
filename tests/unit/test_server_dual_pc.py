"""Dual peer connection mode: the server offers what a client receives."""

from __future__ import annotations

import asyncio

import pytest
from livekit.protocol import rtc

from greenroom.server.app import RoomServer
from greenroom.server.sdp import SessionDescription
from greenroom.server.sdp.codecs import MID

from .server_client import Client, client
from .server_fakes import FakeMediaServer


def answer_to(offer: rtc.SessionDescription, *, refuse: str = "") -> str:
    """What a browser answers: the offer turned round, in its own words."""
    description = SessionDescription.parse(offer.sdp)
    lines = ["v=0", "o=- 5 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE " + " ".join(description.bundle)]
    for section in description.media:
        text = section.lines()
        keep = ("m=", "c=", "a=mid", "a=rtpmap", "a=fmtp", "a=rtcp", "a=extmap", "a=sctp", "a=max")
        lines += [line for line in text if line.startswith(keep)]
        lines += ["a=ice-ufrag:wxyz", "a=ice-pwd:0123456789012345678901234567", "a=fingerprint:sha-256 CC:DD",
                  "a=setup:active"]  # fmt: skip
        if section.is_rtp:
            lines.append({"sendonly": "a=recvonly"}.get(section.direction, "a=inactive"))
            if section.mid == refuse:
                lines = [line for line in lines if "VP8" not in line]
    return "\r\n".join(lines) + "\r\n"


async def accept(one: Client, offer_id: int | None = None) -> SessionDescription:
    """Take the next offer and answer it."""
    offer = await one.expect("offer")
    await one.send(
        answer=rtc.SessionDescription(
            type="answer", sdp=answer_to(offer), id=offer.id if offer_id is None else offer_id
        )
    )
    one.answer_message = offer
    return SessionDescription.parse(offer.sdp)


async def test_server_offers_at_once_with_channels_of_its_own(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", dual=True, connected=False) as alice:
        assert alice.joined.subscriber_primary
        offer = await accept(alice)
        (data,) = offer.media
        assert alice.answer_message.type == "offer"
        assert data.kind == "application" and data.setup == "actpass" and offer.ice_lite
        await alice.settle()
        participant = server.manager.rooms["test"].participants["alice"]
        number = participant.subscriber_pc.number
        assert media.data[number] == (
            65535,
            (("_reliable", True, None), ("_lossy", False, 0), ("_data_track", False, 0)),
        )
        assert media.remotes[number] == ("wxyz", "0123456789012345678901234567", "sha-256 CC:DD")


async def test_offer_ids_start_small_and_grow_by_one(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob", dual=True, connected=False) as bob:
        await accept(bob)
        first = bob.answer_message.id
        assert 1 <= first <= 257
        await alice.publish("mic")
        await accept(bob)
        assert bob.answer_message.id == first + 1


async def test_publisher_offer_without_media_is_answered(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", dual=True, connected=False) as alice:
        answer = await alice.negotiate()
        (data,) = answer.media
        assert data.setup == "passive" and data.sctp_port == 5000


async def test_subscribed_tracks_are_offered(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob", dual=True, connected=False) as bob:
        await accept(bob)
        mic = await alice.publish("mic")
        await accept(bob)
        cam = await alice.publish("cam", "video")
        offer = await accept(bob)
        assert dict(bob.answer_message.mid_to_track_id) == {"1": mic.sid, "2": cam.sid}
        audio, video = offer.media[1:]
        assert audio.direction == video.direction == "sendonly"
        assert video.msid == (f"{alice.sid}|{cam.sid}", cam.sid)
        assert {codec.pt: codec.key for codec in video.codecs}[96] == "vp8"
        assert "goog-remb" in video.codecs[0].feedback
        await bob.settle()
        participant = server.manager.rooms["test"].participants["bob"]
        senders = media.senders[participant.subscriber_pc.number]
        assert [sender.mid for sender in senders] == ["1", "2"]
        assert senders[1].codecs[0].pt == 96 and senders[1].extensions[MID] == 4


async def test_stereo_is_announced(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob", dual=True, connected=False) as bob:
        await accept(bob)
        await alice.publish("mic", stereo=True)
        assert alice.answer.media[7].codecs[0].parameters["stereo"] == "1"
        offer = await accept(bob)
        assert offer.media[1].codecs[0].parameters["sprop-stereo"] == "1"


async def test_nothing_is_sent_before_the_answer(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob", dual=True, connected=False) as bob:
        await accept(bob)
        await alice.publish("mic")
        await bob.expect("offer")
        participant = server.manager.rooms["test"].participants["bob"]
        assert media.senders.get(participant.subscriber_pc.number, []) == []


async def test_one_offer_at_a_time(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob", dual=True, connected=False) as bob:
        first = await bob.expect("offer")
        await alice.publish("mic")
        await alice.publish("cam", "video")
        assert "offer" not in await bob.settle()
        await bob.send(answer=rtc.SessionDescription(type="answer", sdp=answer_to(first), id=first.id))
        assert len((await accept(bob)).media) == 3


async def test_answer_of_the_rust_engine_has_id_0(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob", dual=True, connected=False) as bob:
        await accept(bob, offer_id=0)
        await alice.publish("mic")
        await accept(bob, offer_id=0)
        await bob.settle()
        participant = server.manager.rooms["test"].participants["bob"]
        assert len(media.senders[participant.subscriber_pc.number]) == 1


async def test_answer_to_an_older_offer_is_ignored(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", dual=True, connected=False) as alice:
        offer = await alice.expect("offer")
        await alice.send(answer=rtc.SessionDescription(type="answer", sdp=answer_to(offer), id=offer.id + 7))
        await alice.settle()
        assert not media.remotes


async def test_unsubscribed_section_is_inactive_then_used_again(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.server.transport.PeerConnection.rest", 0.0)
    async with client(server, media, "alice") as alice, client(server, media, "bob", dual=True, connected=False) as bob:
        await accept(bob)
        mic = await alice.publish("mic")
        await accept(bob)
        await bob.send(subscription=rtc.UpdateSubscription(track_sids=[mic.sid], subscribe=False))
        offer = await accept(bob)
        assert offer.media[1].direction == "inactive" and not bob.answer_message.mid_to_track_id
        await bob.send(subscription=rtc.UpdateSubscription(track_sids=[mic.sid], subscribe=True))
        offer = await accept(bob)
        assert len(offer.media) == 2 and offer.media[1].direction == "sendonly"
        await bob.settle()
        participant = server.manager.rooms["test"].participants["bob"]
        assert [sender.mid for sender in media.senders[participant.subscriber_pc.number]] == ["1"]


async def test_a_track_that_is_wanted_again_gets_a_rested_section(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob", dual=True, connected=False) as bob:
        await accept(bob)
        mic = await alice.publish("mic")
        await accept(bob)
        for subscribe in (False, True):
            await bob.send(subscription=rtc.UpdateSubscription(track_sids=[mic.sid], subscribe=subscribe))
        offer = await accept(bob)
        assert [section.direction for section in offer.media] == ["sendrecv", "inactive", "sendonly"]


async def test_codec_that_the_client_cannot_take_is_told(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob", dual=True, connected=False) as bob:
        await accept(bob)
        cam = await alice.publish("cam", "video")
        offer = await bob.expect("offer")
        text = answer_to(offer).replace("VP8", "XX8")
        await bob.send(answer=rtc.SessionDescription(type="answer", sdp=text, id=offer.id))
        response = await bob.expect("subscription_response")
        assert response.track_sid == cam.sid and response.err == 1


async def test_downstream_data_uses_the_subscriber_connection(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", dual=True, connected=False) as alice:
        await accept(alice)
        room = server.manager.rooms["test"]
        room.send_data(b"x")
        assert media.sent[0][0] == [room.participants["alice"].subscriber_pc.number]


async def test_active_when_the_subscriber_connection_is_up(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", dual=True, connected=False) as alice:
        await accept(alice)
        participant = server.manager.rooms["test"].participants["alice"]
        media.event("connected", participant.publisher_pc.number)
        await alice.settle()
        assert not participant.was_active
        media.event("connected", participant.subscriber_pc.number)
        await alice.expect("update", lambda u: u.participants[0].state == 2)


async def test_without_subscribe_permission_the_publisher_connection_is_primary(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with client(server, media, "alice", dual=True, connected=False, grants={"can_subscribe": False}) as alice:
        assert not alice.joined.subscriber_primary
        participant = server.manager.rooms["test"].participants["alice"]
        media.event("connected", participant.publisher_pc.number)
        await alice.expect("update", lambda u: u.participants[0].state == 2)


async def test_resume_restarts_ice_with_a_new_offer(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", dual=True, connected=False) as alice:
        await accept(alice)
        participant = server.manager.rooms["test"].participants["alice"]
        media.event("connected", participant.subscriber_pc.number)
        await alice.expect("update", lambda u: u.participants[0].state == 2)
        before = SessionDescription.parse(alice.answer_message.sdp).media[0].ice_ufrag
        await alice.ws.close()
        query = {"reconnect": "1", "sid": alice.sid}
        async with client(server, media, "alice", dual=True, connected=False, query=query) as again:
            assert again.seen[0].WhichOneof("message") == "reconnect"
            offer = await accept(again)
            assert offer.media[0].ice_ufrag != before
            assert media.restarts


async def test_unanswered_offer_means_a_full_reconnect_but_not_after_a_resume(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client(server, media, "alice", dual=True, connected=False) as alice:
        await accept(alice)
        monkeypatch.setattr("greenroom.server.transport.offerer.ANSWER_TIMEOUT", 0.1)
        participant = server.manager.rooms["test"].participants["alice"]
        media.event("connected", participant.subscriber_pc.number)
        await alice.expect("update", lambda u: u.participants[0].state == 2)
        query = {"reconnect": "1", "sid": alice.sid}
        for _ in range(2):
            async with client(server, media, "alice", dual=True, connected=False, query=query) as again:
                await again.expect("offer")
        monkeypatch.setattr("greenroom.server.transport.offerer.ANSWER_TIMEOUT", 15)
        async with client(server, media, "alice", dual=True, connected=False, query=query) as again:
            await accept(again)
            await asyncio.sleep(0.2)
            assert "leave" not in await again.settle(), "the offers before the resume do not count"
            monkeypatch.setattr("greenroom.server.transport.offerer.ANSWER_TIMEOUT", 0.1)
            participant.subscriber_pc.offer_now()
            assert (await again.expect("leave")).action == rtc.LeaveRequest.Action.RECONNECT
