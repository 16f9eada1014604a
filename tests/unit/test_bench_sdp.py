"""The load generator's SDP: what it takes from a server's, and what it answers."""

from __future__ import annotations

import pytest
from bench import sdp

LOCAL = sdp.Local("ufrg", "p" * 24, "sha-256 " + ":".join(["AB"] * 32))

SERVER_OFFER = """v=0
o=- 1 2 IN IP4 0.0.0.0
s=-
t=0 0
a=fingerprint:sha-256 00:11
a=group:BUNDLE 0 1 2
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=setup:actpass
a=mid:0
a=sctp-port:5000
a=ice-ufrag:remote
a=ice-pwd:remotepassword
a=candidate:1 1 udp 2130706431 2001:db8::1 5000 typ host
a=candidate:1 1 tcp 2130706430 192.0.2.1 5001 typ host tcptype passive
a=candidate:1 1 udp 2130706429 192.0.2.1 5002 typ host
m=audio 9 UDP/TLS/RTP/SAVPF 63 111
a=setup:actpass
a=mid:1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtcp-fb:111 nack
a=sendrecv
m=video 9 UDP/TLS/RTP/SAVPF 96 97 98
a=setup:actpass
a=mid:2
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 nack
a=rtcp-fb:96 goog-remb
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:98 VP9/90000
a=extmap:5 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=ssrc-group:FID 1000 2000
a=sendonly
"""


def test_a_servers_transport_is_read_wherever_it_stands():
    description = sdp.Description.parse(SERVER_OFFER)
    assert sdp.remote(description) == sdp.Remote("remote", "remotepassword", "sha-256 00:11", False, "actpass")
    addresses = [sdp.host_address(candidate) for candidate in description.candidates()]
    assert addresses == [None, None, "192.0.2.1:5002"]


def test_a_transport_without_credentials_is_refused():
    with pytest.raises(ValueError, match="ice-pwd"):
        sdp.remote(sdp.Description.parse(SERVER_OFFER.replace("a=ice-pwd:remotepassword\n", "")))


def test_reception_knows_opus_vp8_and_its_retransmissions():
    reception = sdp.reception(sdp.Description.parse(SERVER_OFFER))
    assert reception.codecs == [(111, 48_000, None, True), (96, 90_000, None, True), (97, 90_000, 96, False)]
    assert reception.repairs == [(2000, 1000)]
    assert (reception.twcc_id, reception.remb) == (5, True)


def test_an_answer_receives_what_the_offer_sends():
    answer = sdp.Description.parse(sdp.answer(sdp.Description.parse(SERVER_OFFER), LOCAL, 2))
    application, audio, video = answer.sections
    assert [section.mid for section in answer.sections] == ["0", "1", "2"]
    assert {section.get("setup") for section in answer.sections} == {"active"}
    assert (application.kind, audio.formats, video.formats) == ("application", ["111"], ["96", "97"])
    assert audio.get("recvonly") == video.get("recvonly") == ""
    assert audio.get("fmtp") == "111 minptime=10;useinbandfec=1"
    assert "97 apt=96" in video.all("fmtp")
    assert answer.find("ice-ufrag") == LOCAL.ufrag


def test_an_answer_rejects_a_section_without_a_usable_codec():
    offer = sdp.Description.parse(SERVER_OFFER.replace("VP8", "H265"))
    video = sdp.Description.parse(sdp.answer(offer, LOCAL, 2)).sections[2]
    assert (video.port, video.get("inactive")) == (0, "")


def test_an_answer_keeps_a_stopped_section_stopped():
    offer = sdp.Description.parse(SERVER_OFFER.replace("a=sendonly", "a=inactive"))
    assert sdp.Description.parse(sdp.answer(offer, LOCAL, 2)).sections[2].get("inactive") == ""


def test_an_offer_has_a_section_for_each_track():
    offer = sdp.Description.parse(sdp.offer(LOCAL, [("audio", "mic", 7), ("video", "cam", 8)], 3))
    assert [(section.kind, section.mid) for section in offer.sections] == [
        ("application", "0"),
        ("audio", "1"),
        ("video", "2"),
    ]
    assert offer.sections[1].get("msid") == "- mic"
    assert "8 cname:load" in offer.sections[2].all("ssrc")
    assert sdp.accepted_extensions(offer.sections[1])[sdp.AUDIO_LEVEL] == 1
