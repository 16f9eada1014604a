"""What is said about a picture, on its way to the native core and back; what publishing announces."""

from __future__ import annotations

import logging

import pytest
from livekit.protocol import models

from greenroom import rtc
from greenroom.rtc.frame_metadata import from_native, to_native
from greenroom.rtc.publishing import add_track_request
from greenroom.rtc.signal_client import client_info


@pytest.mark.parametrize(
    ("fields", "native"),
    [
        ({}, None),
        ({"user_data": b""}, None),
        ({"user_timestamp": 0}, (0, None, b"")),
        ({"frame_id": 0}, (None, 0, b"")),
        ({"user_data": b"x" * 248}, (None, None, b"x" * 248)),
        (
            {"user_timestamp": 2**64 - 1, "frame_id": 2**32 - 1, "user_data": b"x" * 232},
            (2**64 - 1, 2**32 - 1, b"x" * 232),
        ),
    ],
)
def test_what_is_set_goes_there_and_comes_back(fields, native):
    record = rtc.FrameMetadata(**fields)
    assert to_native(record) == native
    if native is not None:
        back = from_native(native)
        assert back == record
        assert all(back.HasField(name) == record.HasField(name) for name in record.FIELDS)


def test_nothing_said_is_nothing():
    assert to_native(None) is None
    assert from_native(None) is None


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"user_data": b"x" * 249}, None),
        ({"frame_id": 7, "user_data": b"x" * 243}, (None, 7, b"")),
        ({"user_timestamp": 1, "frame_id": 7, "user_data": b"x" * 233}, (1, 7, b"")),
    ],
)
def test_user_data_without_room_is_left_out_with_a_warning(fields, left, caplog):
    with caplog.at_level(logging.WARNING):
        assert to_native(rtc.FrameMetadata(**fields)) == left
    assert "user data" in caplog.text


@pytest.mark.parametrize("fields", [{"frame_id": 2**32}, {"user_timestamp": 2**64}, {"frame_id": -1}])
def test_numbers_out_of_range(fields):
    with pytest.raises(ValueError, match="between 0 and"):
        rtc.VideoSource(320, 240).capture_frame(
            rtc.VideoFrame(16, 16, rtc.VideoBufferType.RGBA, bytes(1024)), metadata=rtc.FrameMetadata(**fields)
        )


def test_features_are_announced():
    features = [rtc.FrameMetadataFeature.FMF_USER_TIMESTAMP, rtc.FrameMetadataFeature.FMF_USER_DATA]
    track = rtc.LocalVideoTrack.create_video_track("cam", rtc.VideoSource(320, 240))
    request = add_track_request(track, "cid", rtc.TrackPublishOptions(frame_metadata_features=features))
    assert list(request.packet_trailer_features) == [
        models.PacketTrailerFeature.PTF_USER_TIMESTAMP,
        models.PacketTrailerFeature.PTF_USER_DATA,
    ]
    assert not add_track_request(track, "cid", rtc.TrackPublishOptions()).packet_trailer_features
    assert models.ClientInfo.Capability.CAP_PACKET_TRAILER in client_info().capabilities
