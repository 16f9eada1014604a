"""Chromium with the official livekit-client, against a real room server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.conftest import token, until
from tests.e2e.browser import IN_PAGE, LIVEKIT_CLIENT, executable, flags, speak

SPOKEN = "what is seven times eight"


@pytest.fixture(scope="session")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WAV in which a person asks a question, again and again."""
    return speak(tmp_path_factory.mktemp("speech") / "question.wav", SPOKEN)


@pytest.fixture
async def browser(microphone: Path) -> AsyncIterator[Browser]:
    """Headless Chromium with a fake camera and a microphone that speaks."""
    path = executable()
    if path is None:
        pytest.fail("the end-to-end tests need Chromium: apt-get install chromium")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=path, headless=True, args=flags(microphone))
        yield chromium
        await chromium.close()


class Tab:
    """A browser page in which `window.gr` drives livekit-client."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url

    async def call(self, function: str, *arguments: Any) -> Any:
        """`gr.<function>(...arguments)` in the page; its result as plain values."""
        work = self.page.evaluate("([name, args]) => gr[name](...args)", [function, list(arguments)])
        return await asyncio.wait_for(work, 45)

    async def join(self, name: str, room: str = "test", **options: Any) -> Any:
        return await self.call("join", name, self._url, token(name, room), options)

    async def seen(self, name: str, kind: str) -> list[Any]:
        return (await self.call("seen", name))[kind]

    async def streams(self, name: str, direction: str, kind: str) -> list[dict[str, Any]]:
        """RTP streams (`inbound-rtp` or `outbound-rtp`) of a kind."""
        return [row for row in await self.call("streams", name) if row["type"] == direction and row.get("kind") == kind]


@pytest.fixture
async def open_tab(browser: Browser, room_server: Any) -> AsyncIterator[Callable[[], Awaitable[Tab]]]:
    """`await open_tab()`: a page with the client loaded, in a browser context of its own."""
    contexts = []

    async def open_one() -> Tab:
        context = await browser.new_context(permissions=["microphone", "camera"])
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(30_000)
        await page.goto(room_server.url + "/")
        await page.set_content("<title>test</title>")
        await page.add_script_tag(path=LIVEKIT_CLIENT)
        await page.add_script_tag(path=IN_PAGE)
        return Tab(page, room_server.url)

    yield open_one
    for context in contexts:
        await context.close()


__all__ = ["SPOKEN", "Tab", "until"]
