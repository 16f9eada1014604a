"""Single peer connection mode: the rules of the bundled offer."""

from __future__ import annotations

import dataclasses

import pytest
from livekit.protocol import models, rtc

from greenroom.server.app import RoomServer
from greenroom.server.sdp import SessionDescription
from greenroom.server.sdp.codecs import MID, REPAIRED_STREAM_ID, STREAM_ID

from .server_client import OfferText, client
from .server_fakes import FakeMediaServer


async def test_join_comes_first_then_token_then_answer(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        kinds = [response.WhichOneof("message") for response in alice.seen]
        assert kinds[:2] == ["join", "refresh_token"]
        assert kinds.index("refresh_token") < kinds.index("answer")
        assert "offer" not in kinds


async def test_join_response_has_what_clients_need(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        joined = alice.joined
        assert joined.room.sid.startswith("RM_") and joined.room.name == "test"
        assert joined.participant.sid.startswith("PA_") and joined.participant.identity == "alice"
        assert joined.participant.permission.can_publish and joined.participant.permission.can_subscribe
        assert joined.participant.client_protocol == 2
        assert joined.server_info.protocol == 17, "18 means pre-negotiated data channels"
        assert joined.server_version and joined.server_info.version
        assert joined.ping_interval > 0 and joined.ping_timeout > 0, "the Rust engine panics on 0"
        assert not joined.subscriber_primary
        assert joined.enabled_publish_codecs[0].mime == "video/VP8"
        assert joined.fast_publish and joined.sif_trailer


async def test_first_answer_takes_mid_and_rid_extensions_on_receiving_video(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with client(server, media, "alice") as alice:
        videos = [section for section in alice.answer.media if section.kind == "video"]
        assert len(videos) == 3
        for section in videos:
            assert section.direction == "sendonly"
            uris = set(section.extensions.values())
            assert {MID, STREAM_ID, REPAIRED_STREAM_ID} <= uris
            assert section.extensions[10] == STREAM_ID, "the client's ids"


async def test_answer_uses_the_clients_payload_types(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        audio, video = alice.answer.media[0], alice.answer.media[3]
        assert [(codec.pt, codec.key) for codec in audio.codecs] == [
            (111, "opus"),
            (63, "red"),
            (0, "pcmu"),
            (8, "pcma"),
        ]
        assert [codec.pt for codec in video.codecs] == [96, 97, 103, 104, 98, 99, 45, 46]
        assert video.codecs[0].feedback == ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"]


async def test_firefox_payload_types_are_kept(server: RoomServer, media: FakeMediaServer) -> None:
    text = str(OfferText()).replace("111", "109")
    offer = rtc.SessionDescription(type="offer", sdp=text, id=1)
    async with client(server, media, "alice", publisher_offer=offer) as alice:
        assert alice.answer.media[0].codecs[0].pt == 109


async def test_answer_is_ice_lite_passive_and_carries_candidates(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        answer = alice.answer
        assert answer.ice_lite and answer.bundle == [str(mid) for mid in range(7)]
        assert {section.setup for section in answer.media} == {"passive"}
        assert any("127.0.0.1 7882 typ host" in candidate for candidate in answer.media[0].candidates)
        data = answer.media[6]
        assert (data.sctp_port, data.max_message_size) == (5000, 65535)


async def test_client_opens_the_data_channels(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice"):
        participant = server.manager.rooms["test"].participants["alice"]
        assert media.data[participant.publisher_pc.number] == (262144, ())


async def test_offer_id_is_echoed(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await alice.send(offer=rtc.SessionDescription(type="offer", sdp=str(alice.offer), id=41))
        await alice.send(offer=rtc.SessionDescription(type="offer", sdp=str(alice.offer), id=0))
        assert (await alice.expect("answer")).id == 41
        assert (await alice.expect("answer")).id == 0, "the Rust engine sends and expects 0"


async def test_published_simulcast_is_answered_by_rid(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await alice.publish(
            "cam", "video", "f;h;q", layers=[models.VideoLayer(quality=quality) for quality in range(3)]
        )
        section = alice.answer.media[7]
        assert section.direction == "recvonly"
        assert [(rid.id, rid.direction) for rid in section.rids] == [("f", "recv"), ("h", "recv"), ("q", "recv")]
        assert section.simulcast == {"recv": ["f", "h", "q"]}
        participant = server.manager.rooms["test"].participants["alice"]
        (receiver,) = media.receivers[participant.publisher_pc.number]
        assert receiver.layers == (("f", 2), ("h", 1), ("q", 0)), "by name, never by order"
        assert receiver.extensions[STREAM_ID] == 10
        assert receiver.codecs[0].name == "vp8" and receiver.codecs[0].rtx_pt == 97
        (track,) = participant.tracks.values()
        assert [(layer.rid, layer.spatial_layer) for layer in track.info.layers] == [("q", 0), ("h", 1), ("f", 2)]


async def test_subscribed_track_is_in_the_answer_and_in_mid_to_track_id(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        info = await alice.publish("mic")
        update = await bob.expect("update", lambda u: any(p.tracks for p in u.participants))
        assert update.participants[0].tracks[0].sid == info.sid
        requirement = await bob.expect("media_sections_requirement")
        assert (requirement.num_audios, requirement.num_videos) == (0, 0), "a free section is there"
        answer = await bob.negotiate()
        assert dict(bob.answer_message.mid_to_track_id) == {"0": info.sid}
        section = answer.media[0]
        assert section.direction == "sendonly"
        assert section.msid == (f"{alice.sid}|{info.sid}", info.sid)
        assert all(attributes["cname"] for attributes in section.ssrcs.values())
        participant = server.manager.rooms["test"].participants["bob"]
        (sender,) = media.senders[participant.publisher_pc.number]
        assert sender.ssrc in section.ssrcs and sender.mid == "0" and sender.stream == alice.sid
        assert (await alice.expect("track_subscribed")).track_sid == info.sid


async def test_tracks_that_are_there_come_with_the_first_answer(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        mic = await alice.publish("mic")
        cam = await alice.publish("cam", "video")
        async with client(server, media, "bob") as bob:
            assert dict(bob.answer_message.mid_to_track_id) == {"0": mic.sid, "3": cam.sid}
            (known,) = bob.joined.other_participants
            assert known.sid == alice.sid and len(known.tracks) == 2
            video = bob.answer.media[3]
            ((group, ssrcs),) = video.ssrc_groups
            assert group == "FID" and set(ssrcs) == set(video.ssrcs)


async def test_more_tracks_than_sections_ask_for_sections(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob", offer=OfferText(1, 1)) as bob:
        for index in range(3):
            await alice.add_track(f"mic{index}")
            alice.offer.publish("audio", f"mic{index}")
        await alice.negotiate()
        requirement = await bob.expect("media_sections_requirement")
        assert (requirement.num_audios, requirement.num_videos) == (2, 0)
        bob.offer.add("audio", "recvonly")
        bob.offer.add("audio", "recvonly")
        await bob.negotiate()
        assert sorted(bob.answer_message.mid_to_track_id) == ["0", "3", "4"]
        assert "media_sections_requirement" not in await bob.settle()


async def test_the_server_never_offers(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        await alice.publish("mic")
        await alice.publish("cam", "video")
        await bob.expect("media_sections_requirement")
        await bob.negotiate()
        await bob.settle()
        assert all(response.WhichOneof("message") != "offer" for response in bob.seen)


async def test_a_track_that_ended_becomes_inactive_before_its_section_is_used_again(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.server.transport.PeerConnection.rest", 0.0)
    async with client(server, media, "alice") as alice, client(server, media, "bob", offer=OfferText(1, 1)) as bob:
        first = await alice.publish("mic")
        await bob.expect("media_sections_requirement")
        await bob.negotiate()
        alice.offer.set_direction("7", "inactive")
        await alice.negotiate()
        second = await alice.publish("mic2")
        await bob.expect("media_sections_requirement")
        answer = await bob.negotiate()
        assert answer.media[0].direction == "inactive" and not bob.answer_message.mid_to_track_id
        await bob.expect("media_sections_requirement")
        answer = await bob.negotiate()
        assert answer.media[0].direction == "sendonly"
        assert dict(bob.answer_message.mid_to_track_id) == {"0": second.sid} and second.sid != first.sid


async def test_a_track_that_is_wanted_again_gets_a_rested_section(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        info = await alice.publish("cam", "video")
        async with client(server, media, "bob", offer=OfferText(1, 2)) as bob:
            assert dict(bob.answer_message.mid_to_track_id) == {"1": info.sid}
            for mid in ("2", "4"):
                for subscribe in (False, True):
                    await bob.send(subscription=rtc.UpdateSubscription(track_sids=[info.sid], subscribe=subscribe))
                requirement = await bob.expect("media_sections_requirement")
                if mid == "4":
                    assert requirement.num_videos == 1, "both sections still rest"
                    bob.offer.add("video", "recvonly")
                await bob.negotiate()
                assert dict(bob.answer_message.mid_to_track_id) == {mid: info.sid}


async def test_offer_may_come_before_add_track(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice, client(server, media, "bob") as bob:
        alice.offer.publish("audio", "mic")
        await alice.negotiate()
        assert alice.answer.media[7].direction == "recvonly"
        await bob.settle()
        assert not server.manager.rooms["test"].participants["alice"].tracks
        info = await alice.add_track("mic")
        update = await bob.expect("update", lambda u: u.participants[0].tracks)
        assert update.participants[0].tracks[0].sid == info.sid


async def test_track_with_another_name_in_sdp_matches_the_oldest_request(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with client(server, media, "alice") as alice:
        info = await alice.add_track("mic")
        alice.offer.publish("audio", "{renamed-by-browser}")
        await alice.negotiate()
        (track,) = server.manager.rooms["test"].participants["alice"].tracks.values()
        assert track.sid == info.sid and track.info.codecs[0].sdp_cid == "{renamed-by-browser}"


async def test_client_without_a_bundled_offer_gets_its_answer_later(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice", publisher_offer=None, connected=False) as alice:
        assert "answer" not in await alice.settle()
        answer = await alice.negotiate()
        assert len(answer.media) == 7


async def test_add_track_requests_in_the_join_are_handled_before_the_offer(
    server: RoomServer, media: FakeMediaServer
) -> None:
    offer = OfferText()
    offer.publish("audio", "mic")
    request = rtc.AddTrackRequest(cid="mic", type=models.TrackType.AUDIO, source=models.TrackSource.MICROPHONE)
    async with client(server, media, "alice", offer=offer, add_track_requests=[request]) as alice:
        kinds = [response.WhichOneof("message") for response in alice.seen]
        assert kinds.index("track_published") < kinds.index("answer")
        (track,) = server.manager.rooms["test"].participants["alice"].tracks.values()
        assert track.mid == "7"


@pytest.mark.parametrize(
    "text", ["", "v=0", "nonsense", "v=0\r\nm=audio x y\r\n", "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 300"]
)
async def test_an_offer_that_is_no_offer_means_a_full_reconnect(
    server: RoomServer, media: FakeMediaServer, text: str
) -> None:
    async with client(server, media, "alice") as alice:
        await alice.send(offer=rtc.SessionDescription(type="offer", sdp=text, id=9))
        leave = await alice.expect("leave")
        assert leave.action == rtc.LeaveRequest.Action.RECONNECT


async def test_every_answer_parses_and_has_one_fmtp_per_payload_type(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with client(server, media, "alice") as alice:
        await alice.publish("cam", "video", "q;h;f")
        seen: dict[int, str] = {}
        for section in SessionDescription.parse(alice.answer_message.sdp).media:
            if section.kind == "video":
                for codec in section.codecs:
                    assert seen.setdefault(codec.pt, codec.fmtp) == codec.fmtp


async def test_synced_streams_share_their_stream_id(server: RoomServer, media: FakeMediaServer) -> None:
    server.manager.settings = dataclasses.replace(server.manager.settings, sync_streams=True)
    async with client(server, media, "alice") as alice:
        mic = await alice.publish("mic")
        cam = await alice.publish("cam", "video")
        async with client(server, media, "bob") as bob:
            stream = f"{alice.sid}|camera"
            assert bob.answer.media[0].msid == (stream, mic.sid)
            assert bob.answer.media[3].msid == (stream, cam.sid)


async def test_the_codec_of_the_request_counts_before_the_first_packet(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with client(server, media, "alice") as alice:
        await alice.publish("a", "video", simulcast_codecs=[rtc.SimulcastCodec(codec="h264", cid="a")])
        await alice.publish("b", "video", simulcast_codecs=[rtc.SimulcastCodec(codec="h266", cid="b")])
        tracks = server.manager.rooms["test"].participants["alice"].tracks.values()
        assert [track.info.mime_type for track in tracks] == ["video/H264", "video/VP8"]


async def test_candidates_are_in_the_answer_and_never_trickled(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await alice.negotiate()
        assert all(response.WhichOneof("message") != "trickle" for response in alice.seen)
        assert alice.answer.media[0].candidates and alice.answer.media[0].end_of_candidates


async def test_description_type_is_the_word_answer(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        assert alice.answer_message.type == "answer"


async def test_downstream_data_uses_the_clients_own_connection(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice"), client(server, media, "bob"):
        room = server.manager.rooms["test"]
        room.send_data(b"x", destination_identities=["bob"])
        assert media.sent[0][0] == [room.participants["bob"].publisher_pc.number]
        assert room.participants["bob"].subscriber_pc is None
