"""Clients built on pion (the Go SDK, load generators) write SDP unlike a browser's."""

from __future__ import annotations

import pytest
from livekit.protocol import rtc

from greenroom.server.app import RoomServer
from greenroom.server.sdp import SessionDescription

from .server_client import client
from .server_fakes import FakeMediaServer
from .test_server_dual_pc import answer_to

# The fingerprint stands at the session level, tracks are sendrecv, SSRCs are listed, payload types are pion's own.
OFFER = """\
v=0
o=- 7713522379985680558 1795262074 IN IP4 0.0.0.0
s=-
t=0 0
a=msid-semantic:WMS *
a=fingerprint:sha-256 33:FC:FC
a=extmap-allow-mixed
a=group:BUNDLE 0 1
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=setup:actpass
a=mid:0
a=sendrecv
a=sctp-port:5000
a=ice-ufrag:sarWncOGeoZmRmiF
a=ice-pwd:zHTAGNmOfImHSmXFhzWogNwPkxTABJnj
m=video 9 UDP/TLS/RTP/SAVPF 96 97 125 126
c=IN IP4 0.0.0.0
a=setup:actpass
a=mid:1
a=ice-ufrag:sarWncOGeoZmRmiF
a=ice-pwd:zHTAGNmOfImHSmXFhzWogNwPkxTABJnj
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 goog-remb 
a=rtcp-fb:96 ccm fir
a=rtcp-fb:96 nack 
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:125 H264/90000
a=fmtp:125 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f
a=rtpmap:126 rtx/90000
a=fmtp:126 apt=125
a=ssrc-group:FID 111 222
a=ssrc:111 cname:stream
a=ssrc:111 msid:stream cam
a=ssrc:222 cname:stream
a=ssrc:222 msid:stream cam
a=msid:stream cam
a=sendrecv
""".replace("\n", "\r\n")


async def test_sendrecv_track_with_listed_ssrcs_is_published(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "go", dual=True, connected=False) as go:
        info = await go.add_track("cam", "video")
        await go.send(offer=rtc.SessionDescription(type="offer", sdp=OFFER, id=0))
        answer = SessionDescription.parse((await go.expect("answer")).sdp)
        assert [section.direction for section in answer.media] == ["sendrecv", "recvonly"]
        assert answer.media[1].codecs[0].feedback == ["goog-remb", "ccm fir", "nack", "nack pli"]
        participant = server.manager.rooms["test"].participants["go"]
        assert list(participant.tracks) == [info.sid]
        number = participant.publisher_pc.number
        assert media.remotes[number] == ("sarWncOGeoZmRmiF", "zHTAGNmOfImHSmXFhzWogNwPkxTABJnj", "sha-256 33:FC:FC")
        (receiver,) = media.receivers[number]
        assert receiver.ssrcs == ((111, 222),) and not receiver.layers
        assert media.data[number][0] == 65535, "a missing max-message-size is not zero"


async def test_sendrecv_section_is_not_a_slot(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await alice.publish("cam", "video")
        offer = rtc.SessionDescription(type="offer", sdp=OFFER, id=0)
        async with client(server, media, "go", publisher_offer=offer, connected=False) as go:
            assert not go.answer_message.mid_to_track_id
            requirement = await go.expect("media_sections_requirement")
            assert (requirement.num_audios, requirement.num_videos) == (0, 1)


@pytest.mark.parametrize("setup", ["active", "passive"])
async def test_an_answer_that_waits_for_dtls_gets_a_client_hello(
    server: RoomServer, media: FakeMediaServer, setup: str
) -> None:
    async with client(server, media, "alice", dual=True, connected=False) as alice:
        offer = await alice.expect("offer")
        answer = answer_to(offer).replace("a=setup:active", f"a=setup:{setup}")
        await alice.send(answer=rtc.SessionDescription(type="answer", sdp=answer, id=offer.id))
        await alice.settle()
        number = server.manager.rooms["test"].participants["alice"].subscriber_pc.number
        assert number in media.remotes
        assert media.dtls_started == ([number] if setup == "passive" else [])


@pytest.mark.parametrize(
    ("offered", "answered"), [("actpass", "passive"), ("active", "passive"), ("passive", "active")]
)
async def test_the_answer_takes_the_other_dtls_role(
    server: RoomServer, media: FakeMediaServer, offered: str, answered: str
) -> None:
    async with client(server, media, "alice", dual=True) as alice:
        sdp = OFFER.replace("a=setup:actpass", f"a=setup:{offered}")
        await alice.send(offer=rtc.SessionDescription(type="offer", sdp=sdp, id=1))
        answer = SessionDescription.parse((await alice.expect("answer")).sdp)
        assert {section.setup for section in answer.media} == {answered}
