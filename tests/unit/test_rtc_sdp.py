"""What is read of session descriptions, and of candidates, above the native core."""

from __future__ import annotations

import pytest

from greenroom.rtc.sdp import MAX_CANDIDATE, MAX_SECTIONS, check, check_candidate, sections
from greenroom.rtc.transport import track_sids

HEAD = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
KEYS = "a=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\n"


def section(mid: str, *lines: str, kind: str = "audio", port: int = 9) -> str:
    return "\r\n".join([f"m={kind} {port} UDP/TLS/RTP/SAVPF 111", f"a=mid:{mid}", *lines]) + "\r\n"


def test_streams_and_directions() -> None:
    text = HEAD + KEYS + section("0", "a=sendonly", "a=msid:one t", "a=msid:two t") + section("1", kind="video")
    first, second = check(text)
    assert (first.kind, first.mid, first.stream_ids, first.track_id) == ("audio", "0", ("one", "two"), "t")
    assert first.sends and not first.receives
    assert (second.kind, second.direction, second.stream_ids, second.track_id) == ("video", "sendrecv", (), "")
    assert second.sends and second.receives and second.is_media


@pytest.mark.parametrize(
    ("line", "streams", "track"),
    [("a=msid:- t", (), "t"), ("a=msid:only", ("only",), ""), ("a=msid:s t", ("s",), "t"), ("a=msid:", (), "")],
)
def test_names_of_streams(line: str, streams: tuple[str, ...], track: str) -> None:
    [found] = sections(HEAD + section("0", line))
    assert (found.stream_ids, found.track_id) == (streams, track)


def test_port_0_means_rejected_outside_of_the_bundle_only() -> None:
    bundled, rejected = sections(HEAD + section("1", port=0) + section("2", port=0))
    assert bundled.sends and not bundled.rejected
    assert rejected.rejected and not rejected.sends and not rejected.receives


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not begin with v=0"),
        (HEAD + KEYS, "no m= section"),
        (HEAD + section("0"), "no ice-ufrag"),
        (HEAD + KEYS.replace("fingerprint", "print") + section("0"), "no SHA-256 fingerprint"),
        (HEAD + KEYS.replace(":AB", ":XY") + section("0"), "no SHA-256 fingerprint"),
        (HEAD + KEYS + section(""), "section 1 needs an a=mid"),
        (HEAD + KEYS + section("0") + section("x" * 17), "section 2 needs an a=mid"),
        (HEAD + KEYS + section("0") + section("0"), "two sections"),
        (HEAD + KEYS + "".join(section(str(n)) for n in range(MAX_SECTIONS + 1)), "the limit is 1000"),
        (HEAD + KEYS + section("0") + "a=x\r\n" * 52_500, "has 26[0-9]{4} characters; the limit is 262144"),
    ],
)
def test_what_cannot_be_used_is_said(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check(text)


def test_bytes_are_no_description() -> None:
    with pytest.raises(ValueError, match="not bytes"):
        check(b"v=0")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "candidate",
    [
        # Chromium, Firefox, Safari, ours.
        "candidate:842163049 1 udp 1677729535 203.0.113.9 5000 typ srflx raddr 0.0.0.0 rport 0 generation 0 ufrag Xy+/",
        "candidate:1 1 udp 2113937151 2b4c1f0e-1c4f-4e53-8a43-1f0f0e7d1c3a.local 61234 typ host generation 0 network-cost 999",
        "candidate:3 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active generation 0 ufrag Xy+/ network-id 1",
        "candidate:0 1 UDP 2122252543 192.0.2.7 40000 typ host",
        "candidate:6 2 UDP 2122187006 2001:db8::7 40001 typ host",
        "candidate:4 1 ssltcp 1 fe80::1%eth0 443 typ relay raddr :: rport 0",
        "a=candidate:f 1 udp 1 turn.example.org 3478 typ something x y\r\n",
    ],
)
def test_candidates_that_are_some(candidate: str) -> None:
    assert check_candidate(candidate)


@pytest.mark.parametrize("text", ["", "\r\n", "end-of-candidates", "a=end-of-candidates"])
def test_the_end_of_candidates(text: str) -> None:
    assert not check_candidate(text)


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        ("rubbish", "does not begin with candidate:"),
        ("candidate:", "not of the form"),
        ("candidate:1 1 udp 1 192.0.2.1 9 typ", "not of the form"),
        ("candidate:1 0 udp 1 192.0.2.1 9 typ host", "component is '0'"),
        ("candidate:1 1 udp 4294967296 192.0.2.1 9 typ host", "priority is '4294967296'"),
        ("candidate:1 1 udp ² 192.0.2.1 9 typ host", "priority is '²'"),
        ("candidate:1 1 udp 1 192.0.2.256 9 typ host", "'192.0.2.256' is neither"),
        ("candidate:1 1 udp 1 a..b 9 typ host", "'a..b' is neither"),
        ("candidate:1 1 udp 1 192.0.2.1 65536 typ host", "port is '65536', not 0 to 65535"),
        ("candidate:1 1 udp 1 192.0.2.1 9 type host", "where typ belongs is 'type'"),
        ("candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=x", "not one line"),
        ("candidate:" + "1" * MAX_CANDIDATE, "has 1034 characters"),
        ({"candidate": ""}, "not dict"),
    ],
)
def test_candidates_that_are_none(candidate: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_candidate(candidate)


def test_track_sids_of_a_room_server() -> None:
    text = HEAD + "".join(
        [
            section("0", "a=msid:PA_1|TR_a TR_a", "a=sendonly"),
            section("1", "a=msid:- TR_b"),
            section("2", "a=msid:PA_1 other"),
            section("3", "a=msid:PA_1 TR_c", "a=inactive"),
            section("4", "a=msid:TR_d"),
        ]
    )
    assert track_sids(text) == {"0": "TR_a", "1": "TR_b", "4": "TR_d"}
