"""Data packets between participants."""

from __future__ import annotations

import asyncio

import pytest
from livekit.protocol import models, rtc

from greenroom.api import AccessToken, VideoGrants
from greenroom.server.app import RoomServer
from greenroom.server.data import RpcError

from .server_client import Client, client
from .server_fakes import FakeMediaServer

Kind = models.DataPacket.Kind


def peer_of(server: RoomServer, identity: str) -> int:
    return server.manager.rooms["test"].participants[identity].primary.number


async def emit(
    server: RoomServer, one: Client, identity: str, packet: models.DataPacket, label: str = "_reliable"
) -> None:
    """A message arrives from `identity`, and is handled."""
    one.media.event("data", peer_of(server, identity), label, packet.SerializeToString(), True)
    await one.settle()


def packets(media: FakeMediaServer) -> list[models.DataPacket]:
    return [models.DataPacket.FromString(payload) for _, _, payload in media.sent]


async def test_sender_is_made_true_and_kind_follows_the_channel(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob"):
        user = models.UserPacket(payload=b"hi", participant_identity="somebody", participant_sid="PA_else")
        packet = models.DataPacket(kind=Kind.LOSSY, user=user, participant_identity="somebody", sequence=1)
        await emit(server, alice, "alice", packet)
        ((peers, label, _),) = media.sent
        assert peers == [peer_of(server, "bob")] and label == "_reliable", "never back to the sender"
        (out,) = packets(media)
        assert out.kind == Kind.RELIABLE and out.sequence == 1
        assert (out.participant_identity, out.participant_sid) == ("alice", alice.sid)
        assert (out.user.participant_identity, out.user.participant_sid) == ("alice", alice.sid)


async def test_lossy_channel_makes_lossy_packets(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob"):
        await emit(server, alice, "alice", models.DataPacket(user=models.UserPacket(payload=b"x")), "_lossy")
        assert packets(media)[0].kind == Kind.LOSSY and media.sent[0][1] == "_lossy"


async def test_destinations_are_honoured(server: RoomServer, media: FakeMediaServer) -> None:
    async with (
        client(server, media, "alice") as alice,
        client(server, media, "bob") as bob,
        client(server, media, "eve"),
    ):
        text = models.DataStream.Header(stream_id="s")
        await emit(
            server, alice, "alice", models.DataPacket(stream_header=text, destination_identities=["bob", "gone"])
        )
        assert media.sent[-1][0] == [peer_of(server, "bob")]
        legacy = models.UserPacket(payload=b"x", destination_sids=[bob.sid])
        await emit(server, alice, "alice", models.DataPacket(user=legacy))
        assert media.sent[-1][0] == [peer_of(server, "bob")]


@pytest.mark.parametrize(
    "packet",
    [
        models.DataPacket(rpc_request=models.RpcRequest(id="1", method="m")),
        models.DataPacket(rpc_ack=models.RpcAck(request_id="1")),
        models.DataPacket(rpc_response=models.RpcResponse(request_id="1", payload="p")),
        models.DataPacket(stream_chunk=models.DataStream.Chunk(stream_id="s")),
        models.DataPacket(stream_trailer=models.DataStream.Trailer(stream_id="s")),
        models.DataPacket(chat_message=models.ChatMessage(id="c", message="hello")),
        models.DataPacket(sip_dtmf=models.SipDTMF(code=1)),
        models.DataPacket(encrypted_packet=models.EncryptedPacket(encrypted_value=b"?")),
    ],
    ids=lambda packet: packet.WhichOneof("value"),
)
async def test_all_kinds_pass(server: RoomServer, media: FakeMediaServer, packet: models.DataPacket) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob"):
        await emit(server, alice, "alice", packet)
        assert packets(media)[0].WhichOneof("value") == packet.WhichOneof("value")


async def test_transcription_passes_only_from_agents_and_in_anothers_name(
    server: RoomServer, media: FakeMediaServer
) -> None:
    grants = VideoGrants(room_join=True, room="test")
    jwt = AccessToken("devkey", "secret").with_identity("agent").with_kind("agent").with_grants(grants).to_jwt()
    async with client(server, media, "alice") as alice, client(server, media, "agent", jwt=jwt):
        packet = models.DataPacket(transcription=models.Transcription(track_id="TR"), participant_identity="alice")
        await emit(server, alice, "alice", packet)
        assert media.sent == []
        await emit(server, alice, "agent", packet)
        assert packets(media)[0].participant_identity == "alice"


async def test_metrics_go_only_to_those_who_may_see_them(server: RoomServer, media: FakeMediaServer) -> None:
    async with (
        client(server, media, "alice") as alice,
        client(server, media, "bob"),
        client(server, media, "watcher", grants={"can_subscribe_metrics": True}),
    ):
        await emit(server, alice, "alice", models.DataPacket(metrics={"timestamp_ms": 5}))
        assert media.sent[0][0] == [peer_of(server, "watcher")]


async def test_data_without_permission_is_dropped_and_counted(server: RoomServer, media: FakeMediaServer) -> None:
    async with (
        client(server, media, "alice", grants={"can_publish_data": False}) as alice,
        client(server, media, "bob"),
    ):
        await emit(server, alice, "alice", models.DataPacket(user=models.UserPacket(payload=b"x")))
        assert media.sent == []
        assert server.manager.rooms["test"].data.dropped["not_allowed"] == 1


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x12\xff\xff\xff\xff\x0f", b"garbage" * 100])
async def test_garbage_is_dropped_and_counted(server: RoomServer, media: FakeMediaServer, payload: bytes) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob"):
        media.event("data", peer_of(server, "alice"), "_reliable", payload, True)
        media.event("data", peer_of(server, "alice"), "_data_track", payload, True)
        await alice.settle()
        assert media.sent == []
        assert sum(server.manager.rooms["test"].data.dropped.values()) == 1


async def test_repeated_sequence_numbers_are_dropped(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob"):
        for sequence in (1, 2, 1, 2, 3):
            packet = models.DataPacket(user=models.UserPacket(payload=b"x"), sequence=sequence)
            await emit(server, alice, "alice", packet)
        assert [packet.sequence for packet in packets(media)] == [1, 2, 3]


async def test_a_resumed_receiver_gets_what_it_missed(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        for sequence in (1, 2, 3):
            packet = models.DataPacket(user=models.UserPacket(payload=b"x"), sequence=sequence)
            await emit(server, alice, "alice", packet)
        media.sent.clear()
        state = rtc.DataChannelReceiveState(publisher_sid=alice.sid, last_seq=1)
        await bob.send(sync_state=rtc.SyncState(datachannel_receive_states=[state]))
        await bob.settle()
        assert [packet.sequence for packet in packets(media)] == [2, 3]
        assert {tuple(peers) for peers, _, _ in media.sent} == {(peer_of(server, "bob"),)}


async def test_an_applications_own_channel_becomes_user_packets(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob"):
        media.event("data", peer_of(server, "alice"), "game", b"move", True)
        await alice.settle()
        (out,) = packets(media)
        assert out.user.payload == b"move" and out.user.topic == "game" and out.participant_identity == "alice"


async def test_send_data_of_the_api(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice"), client(server, media, "bob"):
        room = server.manager.rooms["test"]
        for _ in range(2):
            room.send_data(b"x", topic="t", destination_identities=["bob"], nonce=b"0123456789abcdef")
        ((peers, label, _),) = media.sent
        assert peers == [peer_of(server, "bob")] and label == "_reliable", "a repeated nonce is dropped"
        assert packets(media)[0].user.topic == "t"
        room.send_data(b"y", kind=Kind.LOSSY)
        assert len(media.sent[-1][0]) == 2 and media.sent[-1][1] == "_lossy"


async def test_rpc_from_the_server(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        room = server.manager.rooms["test"]
        call = asyncio.create_task(room.perform_rpc("alice", "greet", "hi", 5.0))
        await alice.settle()
        request = packets(media)[0].rpc_request
        assert (request.method, request.payload, request.version) == ("greet", "hi", 1)
        await emit(server, alice, "alice", models.DataPacket(rpc_ack=models.RpcAck(request_id=request.id)))
        response = models.RpcResponse(request_id=request.id, payload="hello")
        await emit(server, alice, "alice", models.DataPacket(rpc_response=response))
        assert await call == "hello"
        failing = asyncio.create_task(room.perform_rpc("alice", "greet", "hi", 5.0))
        await alice.settle()
        error = models.RpcError(code=1400, message="no such method")
        response = models.RpcResponse(request_id=packets(media)[-1].rpc_request.id, error=error)
        await emit(server, alice, "alice", models.DataPacket(rpc_response=response))
        with pytest.raises(RpcError, match="no such method"):
            await failing
        with pytest.raises(LookupError):
            await room.perform_rpc("nobody", "m", "", 1.0)


async def publish_data_track(alice: Client, name: str = "lidar", handle: int = 7) -> models.DataTrackInfo:
    await alice.send(publish_data_track_request=rtc.PublishDataTrackRequest(pub_handle=handle, name=name))
    return (await alice.expect("publish_data_track_response")).info


async def test_data_tracks_get_a_handle_for_each_subscriber(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        info = await publish_data_track(alice)
        assert info.sid.startswith("DTR_")
        assert "data_track_subscriber_handles" not in await bob.settle(), "not by itself"
        for _ in range(2):
            wish = rtc.UpdateDataSubscription.Update(track_sid=info.sid, subscribe=True)
            await bob.send(update_data_subscription=rtc.UpdateDataSubscription(updates=[wish]))
            handles = await bob.expect("data_track_subscriber_handles")
        ((handle, entry),) = handles.sub_handles.items()
        assert (entry.publisher_identity, entry.track_sid) == ("alice", info.sid)
        packet = b"\x18\x00" + (7).to_bytes(2) + b"\x00\x01\x00\x02\x00\x00\x00\x03payload"
        media.event("data", peer_of(server, "alice"), "_data_track", packet, True)
        await alice.settle()
        ((peers, label, payload),) = media.sent
        assert peers == [peer_of(server, "bob")] and label == "_data_track"
        assert payload == packet[:2] + handle.to_bytes(2) + packet[4:]
        await alice.send(unpublish_data_track_request=rtc.UnpublishDataTrackRequest(pub_handle=7))
        assert not (await bob.expect("data_track_subscriber_handles")).sub_handles


async def test_who_joins_later_is_subscribed_to_data_tracks_if_it_wants_all(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with client(server, media, "alice") as alice:
        info = await publish_data_track(alice)
        everything = {"auto_subscribe_data_track": "1"}
        async with client(server, media, "bob", dual=True, connected=False, query=everything) as bob:
            (entry,) = (await bob.expect("data_track_subscriber_handles")).sub_handles.values()
            assert entry.track_sid == info.sid


async def test_data_tracks_follow_the_permission_to_subscribe(server: RoomServer, media: FakeMediaServer) -> None:
    everything = {"auto_subscribe_data_track": "1"}
    async with (
        client(server, media, "alice") as alice,
        client(server, media, "bob", dual=True, query=everything, grants={"can_subscribe": False}) as bob,
    ):
        info = await publish_data_track(alice)
        assert "data_track_subscriber_handles" not in await bob.settle()
        participant = server.manager.rooms["test"].participants["bob"]
        participant.update(permission=models.ParticipantPermission(can_subscribe=True))
        (entry,) = (await bob.expect("data_track_subscriber_handles")).sub_handles.values()
        assert entry.track_sid == info.sid
        participant.update(permission=models.ParticipantPermission(can_subscribe=False))
        assert not (await bob.expect("data_track_subscriber_handles")).sub_handles


@pytest.mark.parametrize(
    ("handle", "name", "reason"),
    [(0, "x", "INVALID_HANDLE"), (8, "", "INVALID_NAME"), (7, "x", "DUPLICATE_HANDLE"), (8, "lidar", "DUPLICATE_NAME")],
)
async def test_bad_data_tracks_are_refused(
    server: RoomServer, media: FakeMediaServer, handle: int, name: str, reason: str
) -> None:
    async with client(server, media, "alice") as alice:
        await publish_data_track(alice)
        await alice.send(publish_data_track_request=rtc.PublishDataTrackRequest(pub_handle=handle, name=name))
        response = await alice.expect("request_response")
        assert response.reason == rtc.RequestResponse.Reason.Value(reason)
