"""`rtc.PeerConnection` with Chromium's own RTCPeerConnection: descriptions go through the test, there is no server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route

from greenroom import rtc
from tests.conftest import until
from tests.interop.peer_sides import Side, ends, frequency, shows as shows_within

PAGE = Path(__file__).with_name("peer_page.js")
RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 230, 230)
Audio, Video = rtc.RemoteAudioTrack, rtc.RemoteVideoTrack


class Tab:
    def __init__(self, page: Page) -> None:
        self.page = page

    async def __call__(self, function: str, *arguments: Any) -> Any:
        """`peer.<function>(...arguments)` in the page."""
        work = self.page.evaluate("([name, args]) => peer[name](...args)", [function, list(arguments)])
        return await asyncio.wait_for(work, 20)

    async def accept(self, offer: str) -> str:
        answer: str = await self("accept", offer)
        return answer

    async def offers(self, side: Side, *, restart: bool = False) -> None:
        await self("answer", await side.pc.accept_offer(await self("offer", restart)))

    async def hears(self, hz: float) -> None:
        async def right() -> bool:
            heard = await self("heard")
            return heard is not None and abs(heard - hz) < 12

        await until(right, f"the page hears {hz} Hz", 20)

    async def sees(self, left: tuple[int, int, int], right: tuple[int, int, int]) -> None:
        async def same() -> bool:
            seen = await self("seen")
            return seen is not None and all(
                abs(have - want) < 40
                for colours in zip(seen, (left, right), strict=True)
                for have, want in zip(*colours, strict=True)
            )

        await until(same, f"the page sees {left} and {right}", 20)


@pytest.fixture
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    context = await browser.new_context()
    page = await context.new_page()

    async def serve(route: Route) -> None:
        await route.fulfill(body="<title>peer</title><body></body>", content_type="text/html")

    await page.route("http://localhost/", serve)
    await page.goto("http://localhost/")
    await page.add_script_tag(path=PAGE)
    yield Tab(page)
    await context.close()


async def shows(track: Any, left: tuple[int, int, int], right: tuple[int, int, int]) -> None:
    # A canvas is captured in the full range of values, and VP8 does not say so.
    await shows_within(track, left, right, 60)


def near(heard: float, wanted: float) -> bool:
    return abs(heard - wanted) < 8


async def test_chromium_offers_and_everything_goes_both_ways(tab: Tab) -> None:
    async with Side("we") as we:
        await tab("send", "voice", "audio", 500)
        await tab("send", "camera", "video", RED, BLUE)
        await tab("open", "chat")
        we.pc.add_track(we.tone(800), rtc.TrackPublishOptions(stream="ours"))
        we.pc.add_track(we.picture(GREEN, WHITE), rtc.TrackPublishOptions(stream="ours"))
        await tab.offers(we)
        await we.pc.wait_connected()
        assert [each.current_direction for each in we.pc.transceivers] == ["sendrecv"] * 2
        assert we.tracks[0][1].remote_stream_ids == (await tab("stream", "voice"),)
        assert near(await frequency(await we.track(Audio)), 500)
        await shows(await we.track(Video), RED, BLUE)
        assert [each["streams"] for each in await tab("tracks")] == [["ours"]] * 2
        await tab.hears(800)
        await tab.sees(GREEN, WHITE)

        await until(lambda: len(we.channels) == 1, "the page's channel")
        got: list[str | bytes] = []
        we.channels[0].on("message", got.append)
        await tab("say", "grüße")
        await tab("say", "")
        await tab("say", [1, 2, 255])
        await until(lambda: got == ["grüße", "", b"\x01\x02\xff"], "its messages")
        await we.channels[0].send("zurück")
        await we.channels[0].send(b"\x00\x07")

        async def all_there() -> bool:
            return bool(await tab("messages") == ["zurück", [0, 7]])

        await until(all_there, "ours in the page")


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_we_offer_and_chromium_answers(tab: Tab, codec: str) -> None:
    async with Side("we") as we:
        chosen = rtc.TrackPublishOptions(video_codec=rtc.VideoCodec.Value(codec))
        we.pc.add_track(we.tone(800), direction="sendonly")
        we.pc.add_track(we.picture(GREEN, WHITE), chosen)
        chat = we.pc.create_data_channel("chat", ordered=False, max_retransmits=3)
        await tab("send", "camera", "video", RED, BLUE)
        await we.pc.negotiate(tab.accept)
        await we.pc.wait_connected()
        assert [each.current_direction for each in we.pc.transceivers] == ["sendonly", "sendrecv"]
        await tab.hears(800)
        await tab.sees(GREEN, WHITE)
        await shows(await we.track(Video), RED, BLUE)
        await chat.wait_open()
        await chat.send("hello")

        async def there() -> bool:
            return bool(await tab("messages") == ["hello"])

        await until(there, "the message in the page")

        async def sent() -> bool:
            entries = [
                each.codec.codec.mime_type for each in await we.pc.stats() if each.WhichOneof("stats") == "codec"
            ]
            return f"video/{codec.lower()}" in entries

        await until(sent, f"{codec} in the figures")


async def test_chromium_renegotiates_and_uses_sections_again(tab: Tab) -> None:
    async with Side("we") as we:
        we.pc.add_track(we.tone(800))
        await we.pc.negotiate(tab.accept)
        await we.pc.wait_connected()
        await tab.hears(800)

        # The page offers now, though we did at first.
        await tab("send", "one", "audio", 500)
        await tab("send", "two", "video", RED, BLUE)
        await tab.offers(we)
        first = await we.track(Audio)
        assert near(await frequency(first), 500)
        await shows(await we.track(Video), RED, BLUE)
        await tab.hears(800)
        mids = {type(track): each.mid for track, each in we.tracks}

        # It stops sending on a section, and sends another stream there.
        stream = rtc.VideoStream(await we.track(Video))
        await tab("remove", "two")
        await tab.offers(we)
        assert we.ended == [await we.track(Video)]
        await ends(stream)
        assert await tab("reuse", "two", "video", GREEN, WHITE) == mids[Video]
        await tab.offers(we)
        again = await we.track(Video, 2)
        assert we.tracks[-1][1].mid == mids[Video]
        await shows(again, GREEN, WHITE)
        assert near(await frequency(first), 500), "the other one was not disturbed"

        # It gives a section up; its place goes to one with a name of its own.
        await tab("stop", "two")
        await tab.offers(we)
        assert we.ended[-1] is again
        await ends(rtc.VideoStream(again))
        await tab("send", "three", "video", BLUE, RED)
        await tab.offers(we)
        await shows(await we.track(Video, 3), BLUE, RED)
        assert we.tracks[-1][1].mid != mids[Video]
        assert len(we.pc.transceivers) == 2 and first not in we.ended

        # And a new path under all of it, asked for by either.
        await tab.offers(we, restart=True)
        assert near(await frequency(first), 500)
        await we.pc.negotiate(tab.accept, ice_restart=True)
        assert near(await frequency(first), 500)
        await tab.hears(800)
        assert await tab("state") == ["connected", "stable"]


async def test_what_chromium_only_wants_to_see(tab: Tab) -> None:
    """A WHEP viewer: recvonly sections, and nothing of its own."""
    async with Side("we") as we:
        await tab("transceiver", "audio")
        await tab("transceiver", "video")
        sender = we.pc.add_track(we.tone(800))
        we.pc.add_track(we.picture(GREEN, WHITE))
        await tab.offers(we)
        await we.pc.wait_connected()
        await tab.hears(800)
        await tab.sees(GREEN, WHITE)
        sender.mute()
        await tab.hears(0)
        sender.unmute()
        await tab.hears(800)
        assert not we.tracks
