"""Session descriptions: reading, writing and answering, for any description (RFC 8866, RFC 8829)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from greenroom.server.sdp import (
    LocalTransport,
    MediaSection,
    OfferedSection,
    Outgoing,
    PublishOptions,
    Rid,
    RtpCodec,
    SdpError,
    SessionDescription,
    accepted_codecs,
    build_answer,
    build_offer,
    native_codecs,
    offer_codecs,
)
from greenroom.server.sdp.codecs import AUDIO_EXTENSIONS, VIDEO_EXTENSIONS
from greenroom.server.settings import DEFAULT_CODECS

from .server_client import OfferText

LOCAL = LocalTransport("ufrag", "pwd", "sha-256 AB:CD", (("192.0.2.1", 7882), ("2001:db8::1", 7882)))

word = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=1, max_size=8)
ssrc = st.integers(0, 2**32 - 1)
codec_names = st.sampled_from(["opus", "red", "VP8", "VP9", "H264", "AV1", "telephone-event", "x-new"])
extensions = st.dictionaries(
    st.integers(1, 255), st.sampled_from(sorted(AUDIO_EXTENSIONS | VIDEO_EXTENSIONS | {"urn:new"})), max_size=6
)


@st.composite
def codecs(draw: st.DrawFn) -> list[RtpCodec]:
    out = []
    for pt in draw(st.lists(st.integers(0, 126), unique=True, min_size=1, max_size=5)):
        name = draw(codec_names)
        rate = 48000 if name in ("opus", "red") else 90000
        feedback = draw(st.lists(st.sampled_from(["nack", "nack pli", "ccm fir", "transport-cc"]), unique=True))
        fmtp = draw(st.sampled_from(["", "minptime=10;useinbandfec=1", "profile-id=0", "apt=96", "111/111"]))
        out.append(RtpCodec(pt, name, rate, 2 if rate == 48000 else 1, fmtp, feedback))
    return out


@st.composite
def sections(draw: st.DrawFn, mid: str) -> MediaSection:
    kind = draw(st.sampled_from(["audio", "video", "application"]))
    section = MediaSection(kind, mid, ice_ufrag="u", ice_pwd="p", fingerprint="sha-256 AA", setup="actpass")
    if kind == "application":
        section.protocol, section.formats = "UDP/DTLS/SCTP", ["webrtc-datachannel"]
        section.sctp_port, section.max_message_size = 5000, draw(st.integers(0, 2**31))
        return section
    section.direction = draw(st.sampled_from(["sendrecv", "sendonly", "recvonly", "inactive"]))
    section.port = draw(st.sampled_from([0, 9]))
    section.bundle_only = section.port == 0 and draw(st.booleans())
    section.codecs = draw(codecs())
    section.extensions = draw(extensions)
    section.rtcp_mux = True
    rids = draw(st.lists(word, unique=True, max_size=3))
    section.rids = [Rid(rid, "send", draw(st.sampled_from(["", "max-width=640"]))) for rid in rids]
    if rids and draw(st.booleans()):
        section.simulcast = {"send": rids}
    section.msid = draw(st.none() | st.tuples(word, word))
    for number in draw(st.lists(ssrc, unique=True, max_size=2)):
        section.ssrcs[number] = {"cname": draw(word)}
    if len(section.ssrcs) == 2:
        section.ssrc_groups = [("FID", tuple(section.ssrcs))]
    return section


@st.composite
def descriptions(draw: st.DrawFn) -> SessionDescription:
    count = draw(st.integers(0, 5))
    media = [draw(sections(str(mid))) for mid in range(count)]
    bundle = [section.mid for section in media if section.port]
    return SessionDescription(draw(st.integers(0, 2**62)), draw(st.integers(0, 2**31)), bundle, media,
                              draw(st.booleans()), draw(st.booleans()))  # fmt: skip


# How long it takes to make up an example says nothing about the code.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(descriptions())
def test_what_is_written_is_read_again(description: SessionDescription) -> None:
    assert SessionDescription.parse(description.to_text()) == description


@given(descriptions())
def test_any_offer_gets_an_answer_that_fits_it(offer: SessionDescription) -> None:
    send = {section.mid: Outgoing("PA_a|TR_b", "TR_b", "PA_a", 5, 6) for section in offer.media}
    answer = build_answer(offer, LOCAL, session=(1, 2), enabled=DEFAULT_CODECS, publish={}, send=send)
    text = answer.to_text()
    assert SessionDescription.parse(text) == answer
    assert [section.mid for section in answer.media] == [section.mid for section in offer.media]
    for offered, section in zip(offer.media, answer.media, strict=True):
        assert section.kind == offered.kind
        assert (section.mid in answer.bundle) == (section.port != 0)
        if offered.rejected:
            assert section.rejected
        if section.rejected or not section.is_rtp:
            continue
        assert not section.sends or offered.receives
        assert not section.receives or offered.sends
        assert {codec.pt for codec in section.codecs} <= {codec.pt for codec in offered.codecs}
        assert section.extensions.items() <= offered.extensions.items()
        assert {rid.id for rid in section.rids} <= {rid.id for rid in offered.rids}
        assert (section.msid is None) == (not section.sends)
        for codec in native_codecs(section):
            assert codec.name != "rtx" and (not codec.rtx_pt or section.codec(codec.rtx_pt).apt == codec.pt)


@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        SessionDescription.parse(text)
    except SdpError:
        return


LINES = str(OfferText()).splitlines()


@settings(max_examples=200)
@given(st.integers(0, len(LINES) - 1), st.text(max_size=30), st.integers(0, 60))
def test_a_damaged_offer_is_read_or_refused(index: int, text: str, cut: int) -> None:
    lines = list(LINES)
    lines[index] = lines[index][:cut] + text
    try:
        offer = SessionDescription.parse("\r\n".join(lines))
    except SdpError:
        return
    answer = build_answer(offer, LOCAL, session=(1, 2), enabled=DEFAULT_CODECS, publish={}, send={})
    SessionDescription.parse(answer.to_text())


@pytest.mark.parametrize("rate", ["0", "-1", "4294967296", "9" * 30])
def test_a_clock_rate_that_the_core_cannot_take_is_refused(rate: str) -> None:
    text = str(OfferText(1, 0)).replace("opus/48000", f"opus/{rate}")
    with pytest.raises(SdpError, match="clock rate"):
        SessionDescription.parse(text)


@pytest.mark.parametrize(
    "lines",
    [
        "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n" * 1025,
        "m=audio 9 UDP/TLS/RTP/SAVPF" + " 0" * 100_000,
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" + "".join(f"a=rid:{n} send\r\n" for n in range(100)),
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=simulcast:send " + ";".join("q" * 100_000),
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" + "".join(f"a=ssrc:{n} cname:x\r\n" for n in range(100)),
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" + "a=ssrc-group:FID 1 2\r\n" * 100,
    ],
    ids=["sections", "formats", "rids", "simulcast", "sources", "groups"],
)
def test_more_than_a_call_has_is_refused(lines: str) -> None:
    with pytest.raises(SdpError, match="more than"):
        SessionDescription.parse("v=0\r\n" + lines)


def test_session_level_attributes_count_for_all_sections() -> None:
    text = "v=0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:sha-256 AA\r\na=setup:active\r\na=recvonly\r\n"
    (section,) = SessionDescription.parse(text + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n").media
    assert (section.ice_ufrag, section.ice_pwd, section.fingerprint) == ("u", "p", "sha-256 AA")
    assert (section.setup, section.direction) == ("active", "recvonly")
    assert section.codecs[0].name == "PCMU", "payload types below 96 need no rtpmap"


def test_published_opus_is_answered_with_dtx_and_stereo_as_asked_for() -> None:
    text = OfferText(0, 0)
    text.publish("audio", "mic")
    offer = SessionDescription.parse(str(text))
    for options, fmtp in (
        (PublishOptions(), "minptime=10;useinbandfec=1;usedtx=1"),
        (PublishOptions(dtx=False), "minptime=10;useinbandfec=1"),
        (PublishOptions(dtx=False, stereo=True), "minptime=10;useinbandfec=1;stereo=1;maxaveragebitrate=510000"),
    ):
        answer = build_answer(offer, LOCAL, session=(1, 1), enabled=DEFAULT_CODECS, publish={"1": options}, send={})
        assert answer.media[1].codecs[0].fmtp == fmtp


def test_red_comes_first_only_when_wished_for() -> None:
    text = OfferText(0, 0)
    text.publish("audio", "mic")
    offer = SessionDescription.parse(str(text))
    for red, order in ((True, [63, 111, 0, 8]), (False, [111, 63, 0, 8])):
        publish = {"1": PublishOptions(red=red)}
        answer = build_answer(offer, LOCAL, session=(1, 1), enabled=DEFAULT_CODECS, publish=publish, send={})
        assert [codec.pt for codec in answer.media[1].codecs] == order


def test_profiles_that_not_everybody_decodes_are_left_out() -> None:
    section = MediaSection("video", "0")
    section.codecs = [
        RtpCodec(96, "H264", 90000, fmtp="profile-level-id=64001f"),
        RtpCodec(97, "H264", 90000, fmtp="profile-level-id=42e01f"),
        RtpCodec(98, "VP9", 90000, fmtp="profile-id=2"),
        RtpCodec(99, "rtx", 90000, fmtp="apt=98"),
        RtpCodec(100, "rtx", 90000, fmtp="apt=97"),
    ]
    assert [codec.pt for codec in accepted_codecs(section, DEFAULT_CODECS)] == [97, 100]
    assert accepted_codecs(section, ["video/VP8"]) == []


def test_section_without_a_common_codec_is_rejected() -> None:
    offer = SessionDescription.parse(str(OfferText(1, 1)))
    answer = build_answer(offer, LOCAL, session=(1, 1), enabled=["audio/opus"], publish={}, send={})
    assert [section.port for section in answer.media] == [9, 0, 9] and answer.bundle == ["0", "2"]


def test_candidates_of_all_addresses_stand_in_the_first_section() -> None:
    offer = SessionDescription.parse(str(OfferText(1, 1)))
    answer = build_answer(offer, LOCAL, session=(1, 1), enabled=DEFAULT_CODECS, publish={}, send={})
    first, second, _ = answer.media
    assert [candidate.split()[4:6] for candidate in first.candidates] == [
        ["192.0.2.1", "7882"],
        ["2001:db8::1", "7882"],
    ]
    assert not second.candidates
    assert len({candidate.split()[0] for candidate in first.candidates}) == 2, "a foundation for each address"


def test_our_offer_has_one_extension_for_each_id() -> None:
    sections = [
        OfferedSection("0", "application"),
        OfferedSection("1", "audio", Outgoing("s", "t", "c", 1), offer_codecs("audio", DEFAULT_CODECS)),
        OfferedSection("2", "video", Outgoing("s", "t", "c", 2, 3), offer_codecs("video", DEFAULT_CODECS)),
        OfferedSection("3", "video", None, offer_codecs("video", DEFAULT_CODECS)),
    ]
    offer = build_offer(LOCAL, session=(1, 1), sections=sections)
    assert SessionDescription.parse(offer.to_text()) == offer
    uris: dict[int, str] = {}
    for section in offer.media:
        for number, uri in section.extensions.items():
            assert uris.setdefault(number, uri) == uri
    assert [section.direction for section in offer.media[1:]] == ["sendonly", "sendonly", "inactive"]
