"""Clients that cannot do what they offer, and the codec that a publisher means."""

from __future__ import annotations

import pytest
from livekit.protocol import models, rtc

from greenroom.server.app import RoomServer
from greenroom.server.client_rules import client_configuration, publishable_codecs, receivable_codecs

from .server_client import client
from .server_fakes import FakeMediaServer

ALL = ("video/VP8", "video/H264", "video/VP9", "video/AV1", "audio/opus")


@pytest.mark.parametrize(
    ("info", "not_received", "not_published"),
    [
        ({"browser": "chrome", "os": "linux"}, set(), set()),
        ({"browser": "Safari", "browser_version": "17.6"}, {"video/AV1"}, {"video/AV1"}),
        ({"browser": "safari", "browser_version": "18.4.1"}, {"video/AV1"}, {"video/AV1", "video/VP9"}),
        ({"browser": "firefox", "os": "linux"}, set(), {"video/H264"}),
        ({"browser": "firefox", "os": "windows"}, set(), set()),
        ({"device_model": "Xiaomi 2201117TI", "os": "android"}, set(), {"video/H264"}),
    ],
)
def test_rules(info: dict[str, str], not_received: set[str], not_published: set[str]) -> None:
    configuration = client_configuration(models.ClientInfo(**info))
    assert set(ALL) - set(receivable_codecs(ALL, configuration)) == not_received
    assert set(ALL) - set(publishable_codecs(ALL, configuration)) == not_published


async def test_answers_follow_the_rules(server: RoomServer, media: FakeMediaServer) -> None:
    query = {"os": "android", "device_model": "Xiaomi 2201117TI"}
    async with client(server, media, "phone", dual=True, connected=False, query=query) as phone:
        assert "video/H264" not in [codec.mime for codec in phone.joined.enabled_publish_codecs]
        assert phone.joined.client_configuration.disabled_codecs.publish[0].mime == "video/H264"
        await phone.publish("cam", "video")
        assert "h264" not in {codec.key for codec in phone.answer.media[1].codecs}


async def test_the_codec_that_is_meant_comes_first(server: RoomServer, media: FakeMediaServer) -> None:
    async with client(server, media, "alice") as alice:
        await alice.publish("cam", "video", simulcast_codecs=[rtc.SimulcastCodec(codec="h264", cid="cam")])
        section = alice.answer.media[7]
        assert section.codecs[0].key == "h264" and section.rtx_of(section.codecs[0].pt)
        assert [codec.key for codec in section.codecs if codec.key != "rtx"] == ["h264", "vp8", "vp9", "av1"]
