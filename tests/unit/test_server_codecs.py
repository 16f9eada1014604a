"""Who can be sent what: codecs are compared by what decides whether a payload can be decoded, not by name."""

from __future__ import annotations

import pytest
from livekit.protocol import models, rtc

from greenroom.server.app import RoomServer
from greenroom.server.sdp import RtpCodec, can_receive

from .server_client import Client, OfferText, client
from .server_fakes import FakeMediaServer

UNSUPPORTED = models.SubscriptionError.SE_CODEC_UNSUPPORTED


def codec(text: str) -> RtpCodec:
    name, _, fmtp = text.partition(" ")
    audio = {"opus": 48000, "red": 48000, "PCMU": 8000}
    return RtpCodec(96, name, audio.get(name, 90000), fmtp=fmtp)


MODE_0 = "H264 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"
MODE_1 = "H264 packetization-mode=1; profile-level-id=42e01f"


@pytest.mark.parametrize(
    ("receiver", "sent", "can"),
    [
        (["VP8"], ["VP8"], True),
        (["vp8"], ["VP8"], True),
        (["VP8", "H264"], ["VP9"], False),
        ([MODE_0], [MODE_0], True),
        ([MODE_0], [MODE_1], False),
        ([MODE_1], [MODE_0], False),
        (["H264"], [MODE_0], True),  # absent: mode 0, constrained baseline
        (["H264"], [MODE_1], False),
        ([MODE_1], ["H264 packetization-mode=1;profile-level-id=42001F"], True),  # baseline and constrained baseline
        ([MODE_1], ["H264 packetization-mode=1;profile-level-id=42e034"], True),  # another level
        ([MODE_1], ["H264 packetization-mode=1;profile-level-id=640032"], False),
        ([MODE_0, MODE_1], [MODE_1], True),
        (["VP9 profile-id=2", "VP9"], ["VP9 profile-id=0"], True),
        (["VP9 profile-id=2"], ["VP9"], False),
        (["AV1"], ["AV1 profile=0;level-idx=5"], True),
        (["opus", "red"], ["red"], True),
        (["opus"], ["red"], True),  # the core takes the Opus out
        (["red"], ["red"], False),
        (["PCMU"], ["red"], False),
        (["opus"], ["PCMU"], False),
        (["VP8"], [], True),  # nothing known: it may be
        ([], [], False),
        ([MODE_0], [MODE_1, MODE_0], True),  # one of them: it may be
    ],
)
def test_what_a_receiver_takes(receiver: list[str], sent: list[str], can: bool) -> None:
    assert can_receive([codec(text) for text in receiver], [codec(text) for text in sent]) == can


class Offer(OfferText):
    """Of video only these payload types, each with its `a=rtpmap` and `a=fmtp`."""

    def __init__(self, *video: tuple[int, str], audios: int = 1, videos: int = 1) -> None:
        super().__init__(audios, videos)
        self.video = video

    def __str__(self) -> str:
        out = []
        in_video = False
        for line in super().__str__().split("\r\n"):
            if line.startswith("m="):
                in_video = line.startswith("m=video")
                if in_video:
                    line = "m=video 9 UDP/TLS/RTP/SAVPF " + " ".join(str(pt) for pt, _ in self.video)
            elif in_video and line.startswith(("a=rtpmap", "a=fmtp", "a=rtcp-fb")):
                continue
            out.append(line)
            if in_video and line == "a=rtcp-rsize":
                for pt, text in self.video:
                    name, _, fmtp = text.partition(" ")
                    out += [f"a=rtpmap:{pt} {name}/90000"] + ([f"a=fmtp:{pt} {fmtp}"] if fmtp else [])
        return "\r\n".join(out)


async def told(one: Client, sid: str) -> int:
    response = await one.expect("subscription_response", lambda response: response.track_sid == sid)
    return response.err


def senders(server: RoomServer, media: FakeMediaServer, identity: str) -> list:
    participant = server.manager.rooms["test"].participants[identity]
    return media.senders.get(participant.downlink.number, [])


def number_of(server: RoomServer, sid: str) -> int:
    return server.manager.rooms["test"].tracks[sid].number


@pytest.mark.parametrize("mode", [0, 1])
async def test_a_subscriber_without_the_packetization_mode_is_told(
    server: RoomServer, media: FakeMediaServer, mode: int
) -> None:
    ours, other = (MODE_1, MODE_0) if mode else (MODE_0, MODE_1)
    async with (
        client(server, media, "alice", offer=Offer((100, ours))) as alice,
        client(server, media, "same", offer=Offer((101, ours))) as same,
        client(server, media, "other", offer=Offer((102, other))) as without,
    ):
        info = await alice.publish("cam", "video")
        await same.expect("media_sections_requirement")
        await same.negotiate()
        await without.expect("media_sections_requirement")
        await without.negotiate()
        assert await told(without, info.sid) == UNSUPPORTED
        assert not senders(server, media, "other"), "the core never hears of it"
        (sender,) = senders(server, media, "same")
        assert [c.pt for c in sender.codecs] == [101]
        await same.settle()
        assert not any(response.WhichOneof("message") == "subscription_response" for response in same.seen)


async def test_it_is_the_same_with_two_peer_connections(server: RoomServer, media: FakeMediaServer) -> None:
    async with (
        client(server, media, "alice", offer=Offer((100, MODE_1))) as alice,
        client(server, media, "old", dual=True) as old,
    ):
        first = next(response.offer for response in old.seen if response.WhichOneof("message") == "offer")
        await old.send(answer=rtc.SessionDescription(type="answer", sdp=first.sdp, id=first.id))
        info = await alice.publish("cam", "video")
        offered = await old.expect("offer", lambda o: info.sid in o.mid_to_track_id.values())
        # It takes H.264 in mode 0 only.
        lines = [
            "m=video 9 UDP/TLS/RTP/SAVPF 125" if line.startswith("m=video") else line
            for line in offered.sdp.replace("a=sendonly", "a=recvonly").split("\r\n")
        ]
        await old.send(answer=rtc.SessionDescription(type="answer", sdp="\r\n".join(lines), id=offered.id))
        assert await told(old, info.sid) == UNSUPPORTED
        assert not senders(server, media, "old")


async def test_what_turns_out_to_be_undecodable_ends_and_what_turns_out_to_be_decodable_begins(
    server: RoomServer, media: FakeMediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.server.transport.peer.PeerConnection.rest", 0.0)
    async with (
        client(server, media, "alice", offer=Offer((100, MODE_0), (101, MODE_1))) as alice,
        client(server, media, "bob", offer=Offer((102, MODE_0), videos=2)) as bob,
    ):
        info = await alice.publish("cam", "video")
        await bob.expect("media_sections_requirement")
        await bob.negotiate()
        assert len(senders(server, media, "bob")) == 1, "it may be mode 0"
        media.event("track", number_of(server, info.sid), 0, 1234, 101)
        assert await told(bob, info.sid) == UNSUPPORTED
        assert not senders(server, media, "bob"), "it is not"
        await bob.expect("media_sections_requirement")
        await bob.negotiate()
        media.event("track", number_of(server, info.sid), 1, 1235, 100)
        await bob.expect("media_sections_requirement")
        await bob.negotiate()
        assert len(senders(server, media, "bob")) == 1, "now it is"


async def test_a_wrong_guess_before_the_first_packet_is_made_good(server: RoomServer, media: FakeMediaServer) -> None:
    async with (
        client(server, media, "alice", offer=Offer((96, "VP8"), (100, MODE_1))) as alice,
        client(server, media, "bob", offer=Offer((102, MODE_1))) as bob,
    ):
        info = await alice.publish("cam", "video")
        await bob.expect("media_sections_requirement")
        await bob.negotiate()
        assert await told(bob, info.sid) == UNSUPPORTED, "the first codec of the section counts until then"
        media.event("track", number_of(server, info.sid), 0, 1234, 100)
        await bob.expect("media_sections_requirement")
        await bob.negotiate()
        assert len(senders(server, media, "bob")) == 1


async def test_a_client_that_lists_less_than_before_loses_what_it_cannot_take(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with (
        client(server, media, "alice", offer=Offer((96, "VP8"))) as alice,
        client(server, media, "bob", offer=Offer((96, "VP8"), (100, MODE_1))) as bob,
    ):
        info = await alice.publish("cam", "video")
        await bob.expect("media_sections_requirement")
        await bob.negotiate()
        assert len(senders(server, media, "bob")) == 1
        assert isinstance(bob.offer, Offer)
        bob.offer.video = ((100, MODE_1),)
        await bob.negotiate()
        assert await told(bob, info.sid) == UNSUPPORTED
        assert not senders(server, media, "bob")


async def test_a_section_whose_codecs_are_all_switched_off_gets_no_track(
    server: RoomServer, media: FakeMediaServer
) -> None:
    async with (
        client(server, media, "alice", offer=Offer((96, "VP8"))) as alice,
        client(server, media, "bob", offer=Offer((96, "H265"))) as bob,
    ):
        info = await alice.publish("cam", "video")
        await bob.expect("media_sections_requirement")
        answer = await bob.negotiate()
        assert await told(bob, info.sid) == UNSUPPORTED
        assert not senders(server, media, "bob") and not bob.answer_message.mid_to_track_id
        assert answer.media[1].rejected
