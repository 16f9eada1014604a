"""The playground page in Chromium: joining, people, captions, chat, latency, errors, keyboard, phone width, contrast.

Every test leaves screenshots in tests/e2e/out/ for somebody to look at.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.async_api import Browser, Page, expect

from greenroom import rtc
from greenroom.api import AccessToken, ListParticipantsRequest, MuteRoomTrackRequest, VideoGrants
from greenroom.server.app import RoomServer
from greenroom.server.config import DEV_KEY, DEV_SECRET
from greenroom.server.http import page_folder
from tests.conftest import until

OUT = Path(__file__).with_name("out")
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 800}
REFUSED = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('no', 'NotAllowedError') }"

expect.set_options(timeout=20_000)

OpenPage = Callable[..., Awaitable[Page]]


@pytest.fixture
async def open_page(browser: Browser, room_server: RoomServer) -> AsyncIterator[OpenPage]:
    """`await open_page(...)`: the page in a context of its own. What it logs as an exception fails the test."""
    if page_folder() is None:
        pytest.fail("the page is not built: npm --prefix web run build")
    contexts, errors = [], []

    async def open_one(
        size: dict[str, int] = DESKTOP,
        scheme: str = "light",
        *,
        room: str = "test",
        hash: str = "",
        before: str = "",
        **options: Any,
    ) -> Page:
        context = await browser.new_context(
            viewport=size, color_scheme=scheme, permissions=["microphone", "camera"], **options
        )
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: errors.append(error))
        if before:
            await page.add_init_script(before)
        await page.goto(f"{room_server.url}/?room={room}{hash}")
        return page

    yield open_one
    for context in contexts:
        await context.close()
    assert not errors, errors


@pytest.fixture
async def enter(room_server: RoomServer) -> AsyncIterator[Callable[..., Awaitable[rtc.Room]]]:
    """`await enter(identity, kind=...)`: a software participant in the room."""
    rooms: list[rtc.Room] = []

    async def one(identity: str, name: str = "", kind: str = "standard", room: str = "test") -> rtc.Room:
        token = AccessToken(DEV_KEY, DEV_SECRET).with_identity(identity).with_name(name or identity).with_kind(kind)
        token.with_grants(VideoGrants(room_join=True, room=room, can_update_own_metadata=True))
        joined = rtc.Room()
        await asyncio.wait_for(joined.connect(room_server.url.replace("http", "ws", 1), token.to_jwt()), 15)
        rooms.append(joined)
        return joined

    yield one
    for joined in rooms:
        await joined.disconnect()


async def shoot(page: Page, name: str) -> None:
    """A screenshot, and the check that nothing is wider than the screen."""
    OUT.mkdir(exist_ok=True)
    await page.screenshot(path=str(OUT / f"{name}.png"))
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"


async def join(page: Page, name: str = "Ada") -> None:
    await page.get_by_label("Your name").fill(name)
    await page.get_by_role("button", name="Join room").click()
    await expect(page.get_by_role("group", name="Call controls")).to_be_visible()


async def say(
    room: rtc.Room, segment: str, text: str, *, final: bool, track: str = "", sender: str | None = None
) -> None:
    attributes = {"lk.segment_id": segment, "lk.transcription_final": str(final).lower()}
    if track:
        attributes["lk.transcribed_track_id"] = track
    writer = await room.local_participant.stream_text(
        topic="lk.transcription", attributes=attributes, sender_identity=sender
    )
    await writer.write(text)
    await writer.aclose()


async def speak_tone(room: rtc.Room) -> asyncio.Task[None]:
    """A voice-like tone on the microphone track, until the task is cancelled."""
    source = rtc.AudioSource(48_000, 1)
    track = rtc.LocalAudioTrack.create_audio_track("voice", source)
    await room.local_participant.publish_track(track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))
    tone = (9_000 * np.sin(2 * np.pi * 200 * np.arange(480) / 48_000)).astype(np.int16)

    async def run() -> None:
        while True:
            await source.capture_frame(rtc.AudioFrame(tone.tobytes(), 48_000, 1, 480))

    return asyncio.create_task(run())


def tile(page: Page, identity: str):
    return page.locator(f".tile[data-identity^='{identity}']")


async def test_a_name_is_enough_to_join(open_page: OpenPage):
    page = await open_page(room="lounge")
    await expect(page.get_by_label("Room", exact=True)).to_have_value("lounge")
    microphone = page.get_by_role("button", name="Microphone")
    await expect(microphone).to_have_attribute("aria-pressed", "true")
    await expect(page.get_by_role("button", name="Camera")).to_have_attribute("aria-pressed", "false")
    await page.locator(".meter .lit").first.wait_for()  # the microphone is heard before joining
    await shoot(page, "lobby")
    await page.get_by_role("button", name="Camera").click()
    await page.wait_for_function("document.querySelector('.preview video').videoWidth > 0")
    await join(page)
    await expect(page.get_by_role("heading", name="lounge")).to_be_visible()
    await expect(page.get_by_text("Waiting for the agent")).to_be_visible()
    await expect(page.locator(".is-local.has-video")).to_be_visible()
    await page.wait_for_function("/ms$/.test(document.querySelector('.rtt-value').textContent)")
    await shoot(page, "alone")
    await page.get_by_role("button", name="Leave").click()
    await expect(page.get_by_role("heading", name="You left the room")).to_be_visible()
    await shoot(page, "left")
    await page.get_by_role("button", name="Join again").click()
    await expect(tile(page, "Ada")).to_be_visible()
    await expect(page.get_by_role("button", name="Microphone")).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "dark"), (PHONE, "light")], ids=["desktop", "phone"])
async def test_a_conversation_with_an_agent(open_page: OpenPage, enter, size, scheme):
    phone = size is PHONE
    page = await open_page(size, scheme)
    await join(page)
    controls = page.get_by_role("group", name="Call controls")
    before = await controls.bounding_box()

    agent = await enter("kitt", "KITT", "agent")
    await agent.local_participant.set_attributes({"lk.agent.state": "thinking"})
    await expect(tile(page, "kitt")).to_contain_text("Thinking")
    await expect(page.get_by_text("Waiting for the agent")).to_have_count(0)
    voice = await speak_tone(agent)
    await agent.local_participant.set_attributes({"lk.agent.state": "speaking"})
    await expect(tile(page, "kitt")).to_contain_text("Speaking")
    loud = "parseFloat(getComputedStyle(document.querySelector('.is-agent')).getPropertyValue('--loudness')) > 0.2"
    await page.wait_for_function(loud)

    me = next(iter(agent.remote_participants.values()))
    for text, final in (("what ti", False), ("what time is", False), ("What time is it?", True)):
        await say(agent, "SG_1", text, final=final, sender=me.identity)
        await expect(page.locator(".caption[data-segment=SG_1] .caption-text")).to_have_text(text)
    writer = await agent.local_participant.stream_text(
        topic="lk.transcription", attributes={"lk.segment_id": "SG_2", "lk.transcription_final": "false"}
    )
    await writer.write("It is")
    spoken = page.locator(".caption[data-segment=SG_2]")
    await expect(page.locator(".caption.is-partial[data-segment=SG_2]")).to_be_visible()
    await writer.write(" noon.")
    await expect(spoken.locator(".caption-text")).to_have_text("It is noon.")
    await writer.aclose(attributes={"lk.transcription_final": "true"})
    await expect(page.locator(".caption.is-partial[data-segment=SG_2]")).to_have_count(0)
    assert await controls.bounding_box() == before, "captions moved the controls"

    await agent.local_participant.send_text("A message", topic="lk.chat")
    figures = {"endpointing": 210, "transcription": 40, "llm_first_token": 60, "tts_first_audio": 90, "total": 400}
    turn = {"turn": 1, "user": "What time is it?", "agent": "It is noon.", "ms": figures, "interrupted": False}
    await agent.local_participant.send_text("not a turn", topic="greenroom.turn")
    await agent.local_participant.send_text(json.dumps(turn), topic="greenroom.turn")
    if phone:
        await expect(page.get_by_role("button", name="Conversation, 1 unread")).to_be_visible()
        await shoot(page, "call-phone")
        await page.get_by_role("button", name="Conversation, 1 unread").click()
    log = page.get_by_role("region", name="Conversation so far")
    await expect(log.locator(".entry")).to_have_text(["What time is it?", "It is noon.", "A message"])
    await expect(log.locator(".log-name")).to_have_text(["Ada (you)", "KITT"])
    await expect(page.locator(".latency-total")).to_have_text("400\u202fms")

    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def read(reader: Any, identity: str) -> None:
        heard.put_nowait((await reader.read_all(), identity))

    readers: list[asyncio.Task[None]] = []
    agent.register_text_stream_handler(
        "lk.chat", lambda reader, identity: readers.append(asyncio.create_task(read(reader, identity)))
    )
    await page.get_by_label("Message").fill("Thank you")
    await page.get_by_label("Message").press("Enter")
    await expect(log.locator(".entry.chat")).to_have_text(["A message", "Thank you"])
    assert await asyncio.wait_for(heard.get(), 10) == ("Thank you", me.identity)
    await shoot(page, "conversation-phone" if phone else "call")
    voice.cancel()


async def test_people_come_and_go(open_page: OpenPage, enter):
    page, other = await open_page(), await open_page(PHONE, "dark")
    await join(page, "Ada")
    await other.get_by_role("button", name="Camera").click()
    await join(other, "Grace")
    await expect(page.locator(".has-video[data-identity^=Grace]")).to_be_visible()
    await page.wait_for_function("document.querySelector('.tile:not(.is-local) video').videoWidth > 0")
    guests = [await enter(f"guest{number}") for number in range(4)]
    await expect(page.locator(".grid .tile")).to_have_count(6)
    await expect(other.locator(".grid .tile")).to_have_count(6)
    await shoot(page, "six")
    await shoot(other, "six-phone")
    for guest in guests:
        await guest.disconnect()
    await expect(page.locator(".grid .tile")).to_have_count(2)
    await other.get_by_role("button", name="Leave").click()
    await expect(page.get_by_text("Waiting for the agent")).to_be_visible()


async def test_joining_without_a_microphone(open_page: OpenPage):
    page = await open_page(PHONE, before=REFUSED)
    await expect(page.get_by_text("Your microphone is blocked")).to_be_visible()
    await shoot(page, "microphone-refused")
    await join(page)
    await page.get_by_role("button", name="Camera").click()
    await expect(page.get_by_text("Your camera is blocked for this page")).to_be_visible()
    await shoot(page, "camera-refused-in-call")
    await page.get_by_role("button", name="Dismiss").click()
    await expect(page.get_by_text("Your camera is blocked")).to_have_count(0)
    await expect(page.get_by_role("button", name="Camera, not available")).to_have_attribute("aria-pressed", "false")


async def test_a_bad_token(open_page: OpenPage):
    token = (
        AccessToken(DEV_KEY, "another secret altogether")
        .with_identity("eve")
        .with_grants(VideoGrants(room_join=True, room="vault"))
    )
    page = await open_page(hash=f"#token={token.to_jwt()}")
    await expect(page.get_by_label("Room", exact=True)).to_have_value("vault")
    await expect(page.get_by_label("Your name")).to_have_value("eve")
    await page.get_by_role("button", name="Join room").click()
    await expect(page.get_by_role("alert")).to_contain_text("did not accept the token")
    await expect(page.get_by_role("button", name="Join room")).to_be_enabled()
    await shoot(page, "bad-token")


async def test_a_token_that_only_lets_listen(open_page: OpenPage, enter):
    grants = VideoGrants(room_join=True, room="test", can_publish=False)
    token = AccessToken(DEV_KEY, DEV_SECRET).with_identity("eve").with_name("Eve").with_grants(grants)
    page = await open_page(hash=f"#token={token.to_jwt()}")
    await expect(page.get_by_role("button", name="Microphone")).to_have_attribute("aria-pressed", "true")
    await page.get_by_role("button", name="Join room").click()
    await expect(page.locator(".toast")).to_contain_text("You can listen and read here")
    await expect(page.get_by_role("button", name="Microphone")).to_have_attribute("aria-pressed", "false")
    agent = await enter("kitt", "KITT", "agent")
    await say(agent, "SG_1", "can you read this", final=True)
    await expect(page.locator(".caption-text")).to_have_text("can you read this")
    await shoot(page, "listen-only")


async def test_the_button_follows_a_microphone_muted_by_the_server(open_page: OpenPage, api):
    page = await open_page()
    await join(page)
    await expect(page.locator(".rtt-value")).to_contain_text("ms")

    async def published():
        people = (await api.room.list_participants(ListParticipantsRequest(room="test"))).participants
        return [(each.identity, track.sid) for each in people for track in each.tracks]

    [(identity, sid)] = await until(published, "the microphone is published")
    await expect(page.locator(".is-local .tile-muted")).to_be_hidden()
    await api.room.mute_published_track(MuteRoomTrackRequest(room="test", identity=identity, track_sid=sid, muted=True))
    microphone = page.get_by_role("button", name="Microphone")
    await expect(microphone).to_have_attribute("aria-pressed", "false")
    await page.keyboard.press("m")
    await expect(microphone).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("size", [PHONE, {"width": 740, "height": 360}, {"width": 900, "height": 620}], ids=str)
async def test_long_words_fit(open_page: OpenPage, enter, size):
    room = "a-room-with-a-name-that-somebody-made-very-long-indeed-" * 2
    page = await open_page(size, room=room)
    await shoot(page, f"long-lobby-{size['width']}")
    await join(page, "Ada" * 20)
    agent = await enter("kitt", "An agent with a rather long name of its own", "agent", room=room)
    await say(agent, "SG_1", "Donaudampfschifffahrtsgesellschaftskapitaen" * 5, final=True)
    await agent.local_participant.send_text("https://example.com/" + "path/" * 60, topic="lk.chat")
    await expect(page.locator(".entry.chat")).to_have_count(1)
    await shoot(page, f"long-call-{size['width']}")
    if not await page.get_by_role("region", name="Conversation so far").is_visible():
        await page.get_by_role("button", name="Conversation").click()
    await shoot(page, f"long-conversation-{size['width']}")
    for name in ("Microphone", "Leave"):
        await expect(page.get_by_role("button", name=name)).to_be_in_viewport(ratio=1)


async def test_muted_at_once_is_muted_in_the_room(open_page: OpenPage, api):
    """The key comes while the track from the lobby is still on its way."""
    page = await open_page()
    await expect(page.get_by_role("button", name="Microphone")).to_have_attribute("aria-pressed", "true")
    await page.evaluate("""() => new MutationObserver((_, observer) => {
        if (!document.querySelector('.call')) return;
        observer.disconnect();
        setTimeout(() => document.dispatchEvent(new KeyboardEvent('keydown', { key: 'm', bubbles: true })));
    }).observe(document.getElementById('app'), { childList: true })""")
    await join(page)

    async def muted():
        people = (await api.room.list_participants(ListParticipantsRequest(room="test"))).participants
        return [track.muted for each in people for track in each.tracks] == [True]

    await until(muted, "the microphone is published and muted")
    await expect(page.get_by_role("button", name="Microphone")).to_have_attribute("aria-pressed", "false")


async def test_the_server_is_gone_before_joining(open_page: OpenPage):
    page = await open_page(PHONE, "dark")
    await page.route("**/api/token", lambda route: route.abort())
    await page.get_by_label("Your name").fill("Ada")
    await page.get_by_label("Your name").press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("The server is not answering")
    await shoot(page, "server-gone")
    await page.unroute("**/api/token")
    await page.get_by_role("button", name="Join room").click()
    await expect(tile(page, "Ada")).to_be_visible()


async def test_the_server_stops_during_the_call(open_page: OpenPage, room_server: RoomServer):
    page = await open_page()
    await join(page)
    await expect(tile(page, "Ada")).to_be_visible()
    await room_server.stop()
    await expect(page.locator(".ended, .banner:not(:empty)").first).to_be_visible()
    await shoot(page, "server-stopping")
    await expect(page.get_by_role("button", name="Join again")).to_be_visible(timeout=90_000)
    await shoot(page, "server-stopped")
    await page.get_by_role("button", name="Join again").click()
    await expect(page.get_by_role("alert")).to_contain_text("The server is not answering")


async def test_the_keyboard_alone(open_page: OpenPage):
    page = await open_page()
    await expect(page.get_by_label("Your name")).to_be_focused()
    await page.keyboard.type("Ada")
    await page.keyboard.press("Enter")
    microphone = page.get_by_role("button", name="Microphone")
    await expect(page.get_by_role("group", name="Call controls")).to_be_visible()
    await expect(microphone).to_have_attribute("aria-pressed", "true")
    await page.keyboard.press("m")
    await expect(microphone).to_have_attribute("aria-pressed", "false")
    await page.keyboard.press("v")
    await expect(page.get_by_role("button", name="Camera")).to_have_attribute("aria-pressed", "true")
    await page.keyboard.press("c")
    await expect(page.get_by_role("button", name="Live captions")).to_have_attribute("aria-pressed", "false")
    await page.keyboard.press("t")
    await expect(page.get_by_label("Message")).to_be_focused()
    await page.keyboard.type("m is a letter here")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("second line")
    await page.keyboard.press("Enter")
    await expect(page.locator(".entry.chat")).to_have_text("m is a letter here\nsecond line")
    await expect(microphone).to_have_attribute("aria-pressed", "false")
    await page.keyboard.press("Escape")
    await expect(microphone).to_be_focused()
    await expect(microphone.locator(".tip")).to_be_visible()
    await expect(microphone.locator("kbd")).to_have_text("M")
    outline = await microphone.evaluate("(element) => getComputedStyle(element).outlineStyle")
    assert outline == "solid", "the focus is visible"
    await shoot(page, "keyboard")
    stops = []
    for _ in range(6):
        stops.append(await page.evaluate("document.activeElement.getAttribute('aria-label')"))
        await page.keyboard.press("Tab")
    assert stops == ["Microphone", "Camera", "Live captions", "Conversation", "Devices", "Leave"]


async def test_devices_can_be_chosen(open_page: OpenPage):
    page = await open_page()
    await expect(page.get_by_role("button", name="Microphone")).to_have_attribute("aria-pressed", "true")
    await page.get_by_role("button", name="Devices").click()
    dialog = page.get_by_role("dialog", name="Devices")
    options = dialog.get_by_label("Microphone").locator("option")
    await expect(options).not_to_have_count(0)
    await dialog.get_by_label("Microphone").select_option(index=await options.count() - 1)
    await shoot(page, "devices")
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(page.get_by_role("button", name="Microphone")).to_have_attribute("aria-pressed", "true")


CONTRAST = """() => {
  const context = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const paint = (colours) => {  // the browser's own compositing, whatever notation a colour has
    context.clearRect(0, 0, 1, 1);
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, index) => sum + v * [0.2126, 0.7152, 0.0722][index], 0);
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const box = element.getBoundingClientRect();
    if (!walker.currentNode.textContent.trim() || box.width < 3 || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    if (element.closest('[aria-hidden=true], :disabled')) continue;
    const grounds = [];
    for (let at = element; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
    const ground = paint(['white', ...grounds]);
    const ink = paint([`rgb(${ground.slice(0, 3)})`, getComputedStyle(element).color]);
    const [low, high] = [luminance(ink), luminance(ground)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) poor.push(`${element.className}: ${walker.currentNode.textContent.trim()} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_is_readable(open_page: OpenPage, enter, scheme):
    """Contrast of every text is at least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    page = await open_page(scheme=scheme, before=REFUSED)
    await expect(page.get_by_text("Your microphone is blocked")).to_be_visible()
    await page.route("**/api/token", lambda route: route.abort())
    await page.get_by_label("Your name").fill("Ada")
    await page.get_by_label("Your name").press("Enter")
    await expect(page.get_by_role("alert")).not_to_be_empty()
    assert await page.evaluate(CONTRAST) == []
    await page.unroute("**/api/token")
    await join(page)
    assert await page.evaluate(CONTRAST) == []
    agent = await enter("kitt", "KITT", "agent")
    await agent.local_participant.set_attributes({"lk.agent.state": "listening"})
    await say(agent, "SG_1", "still being said", final=False)
    await agent.local_participant.send_text("A message", topic="lk.chat")
    await expect(page.locator(".entry")).to_have_count(2)
    await page.keyboard.press("m")
    await expect(page.locator(".toast")).to_be_visible()
    assert await page.evaluate(CONTRAST) == []
    await shoot(page, f"contrast-{scheme}")


async def test_reduced_motion(open_page: OpenPage, enter):
    page = await open_page(reduced_motion="reduce")
    await join(page)
    agent = await enter("kitt", "KITT", "agent")
    await agent.local_participant.set_attributes({"lk.agent.state": "thinking"})
    await expect(tile(page, "kitt")).to_contain_text("Thinking")
    assert await page.evaluate("document.getAnimations().length") == 0
