"""Two browsers with the official client in one room: media, data and recovery, in both connection modes."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from greenroom import rtc
from tests.conftest import token, until


@pytest.fixture(params=[True, False], ids=["single", "dual"])
def single(request) -> bool:
    """One peer connection (`/rtc/v1`) or two (`/rtc`)."""
    return request.param


async def two(open_tab, single: bool):
    alice, bob = await asyncio.gather(open_tab(), open_tab())
    await alice.join("alice", single=single)
    await bob.join("bob", single=single)
    return alice, bob


async def test_the_mode_is_the_one_asked_for(open_tab, single):
    tab = await open_tab()
    await tab.join("alice", single=single)
    assert await tab.call("peerConnections", "alice") == (1 if single else 2)


async def test_audio_and_simulcast_video_reach_the_other_browser(open_tab, single):
    alice, bob = await two(open_tab, single)
    await alice.call("microphone", "alice", True)
    await alice.call("camera", "alice", True)

    async def heard():
        rows = await bob.streams("bob", "inbound-rtp", "audio")
        return any(row["packets"] > 50 and row["audioEnergy"] > 0.0001 for row in rows)

    async def watched():
        rows = await bob.streams("bob", "inbound-rtp", "video")
        return any(row["frames"] > 10 and row["width"] > 0 for row in rows)

    await until(heard, "bob hears alice speak", 30)
    await until(watched, "bob sees alice's camera", 30)
    sent = await alice.streams("alice", "outbound-rtp", "video")
    assert {row["rid"] for row in sent if row["codec"] == "video/VP8"} == {"q", "h", "f"}
    transports = [row for row in await alice.call("streams", "alice") if row["type"] == "transport" and row["srtp"]]
    assert transports and all("AEAD_AES" in row["srtp"] for row in transports), "AES-GCM is what the server picks"


async def test_speakers_are_announced(open_tab):
    alice, bob = await two(open_tab, True)
    await alice.call("microphone", "alice", True)

    async def announced():
        return ["alice"] in await bob.seen("bob", "speakers")

    await until(announced, "bob is told that alice speaks", 30)


async def test_data_both_ways_reliable_and_lossy(open_tab, single):
    alice, bob = await two(open_tab, single)
    for name, tab, other, peer in (("alice", alice, "bob", bob), ("bob", bob, "alice", alice)):
        for reliable in (True, False):
            await tab.call("send", name, f"{name} {reliable}", reliable, "greeting")

            async def arrived(peer=peer, other=other, name=name, reliable=reliable):
                return {"text": f"{name} {reliable}", "from": name, "topic": "greeting"} in await peer.seen(
                    other, "data"
                )

            await until(arrived, f"{other} gets data of {name}")


async def test_chat_attributes_and_rpc(open_tab, single):
    alice, bob = await two(open_tab, single)
    await alice.call("chat", "alice", "hello there")

    async def chatted():
        return {"text": "hello there", "from": "alice"} in await bob.seen("bob", "text")

    await until(chatted, "bob reads alice's chat")
    await alice.call("attributes", "alice", {"mood": "good"})

    async def told():
        return [person for person in await bob.call("others", "bob") if person["attributes"].get("mood") == "good"]

    await until(told, "bob sees alice's attributes")
    await bob.call("serveRpc", "bob", "echo")
    assert await alice.call("rpc", "alice", "bob", "echo", "ping") == "alice:ping"


async def test_mute_unsubscribe_and_leave(open_tab, single):
    alice, bob = await two(open_tab, single)
    await alice.call("microphone", "alice", True)

    async def event(*wanted: str):
        return any(row[: len(wanted)] == list(wanted) for row in await bob.seen("bob", "events"))

    await until(lambda: event("subscribed", "alice", "audio"), "bob is subscribed")
    await alice.call("microphone", "alice", False)
    await until(lambda: event("muted", "alice", "audio"), "bob is told of the mute")
    await alice.call("microphone", "alice", True)
    await until(lambda: event("unmuted", "alice", "audio"), "bob is told of the unmute")
    await bob.call("subscribe", "bob", "alice", False)
    await until(lambda: event("unsubscribed", "alice", "audio"), "bob is unsubscribed")
    await bob.call("subscribe", "bob", "alice", True)

    async def again():
        rows = [row for row in await bob.seen("bob", "events") if row[:2] == ["subscribed", "alice"]]
        return len(rows) >= 2

    await until(again, "bob is subscribed again")
    await alice.call("leave", "alice")
    await until(lambda: event("disconnected", "alice"), "bob is told that alice left")


async def test_a_lost_signal_socket_is_resumed_and_media_goes_on(open_tab, single):
    alice, bob = await two(open_tab, single)
    await alice.call("microphone", "alice", True)

    async def packets():
        return sum(row["packets"] for row in await bob.streams("bob", "inbound-rtp", "audio"))

    await until(packets, "audio flows", 30)
    await alice.call("cutSignal", "alice")

    async def back():
        kinds = [row[0] for row in await alice.seen("alice", "events")]
        return "reconnected" in kinds

    await until(back, "alice is back", 30)
    before = await packets()

    async def more():
        return await packets() > before + 50

    await until(more, "audio goes on after the resume", 30)
    await alice.call("send", "alice", "still here", True, "t")

    async def arrived():
        return any(row["text"] == "still here" for row in await bob.seen("bob", "data"))

    await until(arrived, "data goes on after the resume")
    assert not any(row[0] == "disconnected" for row in await bob.seen("bob", "events"))


async def test_a_full_reconnect_publishes_again(open_tab, single):
    alice, bob = await two(open_tab, single)
    await alice.call("microphone", "alice", True)

    async def subscriptions():
        return sum(row[:3] == ["subscribed", "alice", "audio"] for row in await bob.seen("bob", "events"))

    await until(subscriptions, "bob hears alice", 30)
    await alice.call("fullReconnect", "alice")

    async def twice():
        return await subscriptions() >= 2

    await until(twice, "alice's track is published again", 40)


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_a_browser_shows_pictures_with_words_behind_them(open_tab, room_server, codec):
    tab = await open_tab()
    await tab.join("bob")
    source = rtc.VideoSource(320, 240)
    picture = np.broadcast_to(np.linspace(0, 255, 320, dtype=np.uint8)[None, :, None], (240, 320, 4))

    async def show():
        for number in range(10_000):
            frame = rtc.VideoFrame(320, 240, rtc.VideoBufferType.RGBA, np.roll(picture, number, 1).tobytes())
            source.capture_frame(frame, metadata=rtc.FrameMetadata(frame_id=number, user_data=bytes(range(200))))
            await asyncio.sleep(1 / 20)

    async def watched():
        rows = await tab.streams("bob", "inbound-rtp", "video")
        return any(row["frames"] > 30 and row["codec"] == f"video/{codec}" for row in rows)

    async with rtc.Room() as room:
        await room.connect(room_server.url.replace("http", "ws", 1), token("alice"))
        options = rtc.TrackPublishOptions(
            source=rtc.TrackSource.SOURCE_CAMERA,
            video_codec=rtc.VideoCodec.Value(codec),
            frame_metadata_features=[rtc.FrameMetadataFeature.FMF_FRAME_ID, rtc.FrameMetadataFeature.FMF_USER_DATA],
        )
        await room.local_participant.publish_track(rtc.LocalVideoTrack.create_video_track("cam", source), options)
        showing = asyncio.create_task(show())
        try:
            await until(watched, "bob sees more than a second of alice's pictures", 30)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
