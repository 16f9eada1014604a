"""What is read of session descriptions above the native core."""

from __future__ import annotations

import pytest

from greenroom.rtc.sdp import MAX_SECTIONS, check, sections
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
        (HEAD + "a=x\r\n" * 300_000, "the limit is 1048576"),
    ],
)
def test_what_cannot_be_used_is_said(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check(text)


def test_bytes_are_no_description() -> None:
    with pytest.raises(ValueError, match="not bytes"):
        check(b"v=0")  # type: ignore[arg-type]


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
