"""Option records behave like the protobuf messages that programs were written for."""

import copy

import pytest

from greenroom import rtc


def test_keywords_and_assignment() -> None:
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA)
    options.simulcast = False
    assert options.source == rtc.TrackSource.SOURCE_CAMERA
    assert options.HasField("simulcast")
    assert not options.HasField("dtx")
    assert options.dtx is False


def test_nested_records_exist_before_they_are_set() -> None:
    options = rtc.TrackPublishOptions()
    assert not options.HasField("video_encoding")
    options.video_encoding.max_bitrate = 500_000
    assert options.HasField("video_encoding")
    assert options.video_encoding.max_framerate == 0.0


def test_copies_are_independent() -> None:
    options = rtc.TrackPublishOptions(video_encoding=rtc.VideoEncoding(max_bitrate=1))
    for other in (copy.deepcopy(options), _copied(options)):
        other.video_encoding.max_bitrate = 2
        assert options.video_encoding.max_bitrate == 1


def _copied(options: rtc.TrackPublishOptions) -> rtc.TrackPublishOptions:
    other = rtc.TrackPublishOptions()
    other.CopyFrom(options)
    return other


def test_unknown_fields_are_errors() -> None:
    with pytest.raises(ValueError, match="no field 'sauce'"):
        rtc.TrackPublishOptions(sauce=1)
    with pytest.raises(AttributeError):
        rtc.TrackPublishOptions().sauce  # noqa: B018
    with pytest.raises(AttributeError):
        rtc.TrackPublishOptions().sauce = 1


def test_equality() -> None:
    assert rtc.VideoEncoding(max_bitrate=1) == rtc.VideoEncoding(max_bitrate=1)
    assert rtc.VideoEncoding(max_bitrate=1) != rtc.VideoEncoding(max_bitrate=2)
