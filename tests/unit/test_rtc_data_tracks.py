"""Data tracks: packets, reassembly under loss and reordering, streams."""

import random

import pytest
from hypothesis import given, strategies as st

from greenroom import rtc
from greenroom.rtc.data_track import FrameAssembler, parse_packet, split_frame


@given(
    payload=st.binary(max_size=40_000),
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    sequence=st.integers(0, 0xFFFF),
)
def test_frames_survive_splitting_and_any_order(payload: bytes, timestamp: int | None, sequence: int) -> None:
    packets = split_frame(rtc.DataTrackFrame(payload, timestamp), 7, sequence, 3, 12345)
    assert all(len(packet) <= 16_000 for packet in packets)
    random.Random(sequence).shuffle(packets)
    assembler = FrameAssembler()
    frames = [frame for packet in packets if (frame := assembler.push(parse_packet(packet))) is not None]
    assert frames == [rtc.DataTrackFrame(payload, timestamp)]


def test_a_frame_with_a_lost_packet_is_given_up() -> None:
    assembler = FrameAssembler(max_partial_frames=1)
    for number in range(50):
        first, *_ = split_frame(rtc.DataTrackFrame(bytes(40_000)), 1, number * 3, number, 0)
        assert assembler.push(parse_packet(first)) is None
    assert len(assembler._partial) == 1
    assert assembler.push(parse_packet(split_frame(rtc.DataTrackFrame(b"x"), 1, 200, 60, 0)[0])) is not None


@given(st.binary(max_size=64))
def test_garbage_is_refused(data: bytes) -> None:
    try:
        parse_packet(data)
    except ValueError:
        return
    assert len(data) >= 12


@pytest.mark.parametrize(
    "data", [b"", bytes(11), b"\x20" + bytes(11), b"\x1c" + bytes(11), b"\x1c" + bytes(12) + b"\xff"]
)
def test_truncated_packets(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_packet(data)
