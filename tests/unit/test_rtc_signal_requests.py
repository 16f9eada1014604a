"""What the SDK asks for when it joins: URLs, queries, the join request."""

import base64
import gzip
from urllib.parse import parse_qs, urlsplit

import pytest
from livekit.protocol import models, rtc as proto

from greenroom import rtc
from greenroom.rtc.publishing import add_track_request, video_bitrate, video_layers
from greenroom.rtc.signal_client import dual_query, join_query, signal_url
from greenroom.rtc.transport import track_sids


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://h:7880", "ws://h:7880/rtc/v1"),
        ("wss://h/", "wss://h/rtc/v1"),
        ("http://h:1", "ws://h:1/rtc/v1"),
        ("https://h/base/", "wss://h/base/rtc/v1"),
        ("ws://h/rtc", "ws://h/rtc/v1"),
        ("ws://[::1]:7880", "ws://[::1]:7880/rtc/v1"),
    ],
)
def test_url(url: str, expected: str) -> None:
    assert signal_url(url, "/rtc/v1", {}) == expected


@pytest.mark.parametrize("url", ["", "localhost:7880", "ftp://h", "ws://"])
def test_odd_urls_are_refused_with_an_example(url: str) -> None:
    with pytest.raises(rtc.ConnectError, match="should look like"):
        signal_url(url, "/rtc/v1", {})


def test_join_request_survives_its_wrapping() -> None:
    request = proto.JoinRequest(participant_sid="PA_x", reconnect=True)
    value = parse_qs(urlsplit(signal_url("ws://h", "/rtc/v1", join_query(request))).query)["join_request"][0]
    wrapped = proto.WrappedJoinRequest.FromString(base64.urlsafe_b64decode(value))
    assert wrapped.compression == proto.WrappedJoinRequest.Compression.GZIP
    assert proto.JoinRequest.FromString(gzip.decompress(wrapped.join_request)) == request


def test_dual_query() -> None:
    query = dual_query(proto.ConnectionSettings(auto_subscribe=True), participant_sid="PA_x", reason=1)
    assert (query["protocol"], query["client_protocol"], query["auto_subscribe"]) == ("17", "2", "1")
    assert (query["reconnect"], query["sid"], query["reconnect_reason"]) == ("1", "PA_x", "1")
    assert query["capabilities"] == "CAP_PACKET_TRAILER,CAP_COMPRESSION_DEFLATE_RAW"


def test_track_sids_of_a_description() -> None:
    sdp = "\r\n".join(
        [
            "v=0",
            "a=msid-semantic:WMS *",
            "m=audio 9 X 111",
            "a=mid:0",
            "a=msid:PA_1|TR_a TR_a",
            "a=sendonly",
            "m=audio 9 X 111",
            "a=mid:1",
            "a=sendonly",
            "m=video 9 X 96",
            "a=msid:PA_1|camera TR_v",
            "a=mid:3",
            "a=sendrecv",
            "m=video 9 X 96",
            "a=mid:4",
            "a=msid:PA_1|TR_gone TR_gone",
            "a=inactive",
            "",
        ]
    )
    assert track_sids(sdp) == {"0": "TR_a", "3": "TR_v"}


@pytest.mark.parametrize(
    ("size", "rids"),
    [((1280, 720), ["f", "h", "q"]), ((640, 480), ["h", "q"]), ((320, 240), [""]), ((480, 854), ["h", "q"])],
)
def test_simulcast_layers(size: tuple[int, int], rids: list[str]) -> None:
    layers = video_layers(*size, simulcast=True)
    assert [layer[0] for layer in layers] == rids
    assert [layer[2] for layer in layers] == sorted((layer[2] for layer in layers), reverse=True)
    assert [layer[0] for layer in video_layers(*size, simulcast=False)] == [""]


def test_bitrate_grows_with_the_picture() -> None:
    rates = [video_bitrate(w, w * 9 // 16) for w in (16, 160, 320, 640, 1280, 1920, 3840, 7680)]
    assert rates == sorted(rates)
    assert video_bitrate(1280, 720) == 1_700_000


def test_add_track_requests() -> None:
    track = rtc.LocalAudioTrack.create_audio_track("mic", rtc.AudioSource(48000, 2))
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    request = add_track_request(track, "cid", options)
    assert (request.type, request.source) == (models.TrackType.AUDIO, models.TrackSource.MICROPHONE)
    assert (request.disable_dtx, request.disable_red, request.stereo) == (False, False, True)
    options.dtx = False
    request = add_track_request(track, "cid", options)
    assert request.disable_dtx
    assert models.AudioTrackFeature.TF_NO_DTX in request.audio_features

    video = rtc.LocalVideoTrack.create_video_track("cam", rtc.VideoSource(1280, 720))
    request = add_track_request(video, "cid", rtc.TrackPublishOptions(video_codec=rtc.VideoCodec.H264))
    assert (request.width, request.height) == (1280, 720)
    assert [layer.quality for layer in request.layers] == [2, 1, 0]
    assert [(codec.codec, codec.cid) for codec in request.simulcast_codecs] == [("h264", "cid")]
    request = add_track_request(video, "cid", rtc.TrackPublishOptions(simulcast=False))
    assert len(request.layers) == 1
