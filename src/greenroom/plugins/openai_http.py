"""One request to an OpenAI-compatible server: errors in words, and another attempt while nothing has come of it."""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import aiohttp

from greenroom.agents.speech.adapters import closing
from greenroom.agents.speech.protocols import MissingProvider, ProviderError

__all__ = ["Endpoint", "TooLong", "error_in", "failure"]

DEFAULT_URL = "https://api.openai.com/v1"
CONNECT_TIMEOUT = 5.0
SILENCE_TIMEOUT = 20.0
"""Seconds without a byte after which a request is given up."""
ATTEMPTS = 3
BACK_OFF = 0.3
"""Seconds before the second attempt, give or take a quarter; three times as long before each further one."""
PATIENCE = 8.0
"""Seconds after which no attempt is begun any more, nor waited for one: somebody is on the line."""
MAX_SAID = 4_096
"""Bytes that are read of what a server says with an error."""

Item = TypeVar("Item")
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that another attempt may not meet again."""

FULL = (
    "context_length_exceeded",  # OpenAI and many gateways
    "exceed_context_size",  # llama.cpp
    "exceeds the available context size",  # llama.cpp before it had a code for it
    "maximum context length",  # vLLM
    "context length of only",  # LM Studio
)
"""What servers say, in lower case, when a prompt does not fit into the model's context."""


class TooLong(ProviderError):
    """The prompt does not fit into the model's context. A shorter one may."""


class _Passing(ProviderError):
    """May pass. `after`: seconds that the server asks for, None when it does not say."""

    def __init__(self, text: str, after: float | None = None) -> None:
        super().__init__(text)
        self.after = after


class Endpoint:
    """Address, key and HTTP session (one per event loop) of a provider."""

    def __init__(self, base_url: str | None, api_key: str | None) -> None:
        self._url = (base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL).rstrip("/")
        self._key = api_key if api_key is not None else os.environ.get("OPENAI_API_KEY", "")
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def load(self) -> None:
        if self._url == DEFAULT_URL and not self._key:
            raise MissingProvider("the OpenAI endpoint", "set OPENAI_API_KEY, or OPENAI_BASE_URL for another server")

    async def request(
        self,
        path: str,
        body: Callable[[], dict[str, Any]],
        read: Callable[[aiohttp.ClientResponse], AsyncIterator[Item]],
    ) -> AsyncIterator[Item]:
        """What `read` makes of the response to a POST of `body()` (arguments for `aiohttp`, made anew for each attempt).

        As long as nothing was read, what may pass is tried again: no connection, a connection that breaks, the statuses in
        `PASSING`. A server's `Retry-After` is obeyed, or the failure raised at once when it asks for more than `PATIENCE`.

        Raises:
            TooLong: the prompt does not fit.
            ProviderError: with what the server said.
        """
        self.load()
        deadline, wait = time.monotonic() + PATIENCE, BACK_OFF
        for attempt in range(1, ATTEMPTS + 1):
            begun = False
            try:
                async with closing(self._attempt(path, body(), read)) as items:
                    async for item in items:
                        begun = True
                        yield item
                return
            except _Passing as failure:
                # The randomness keeps callers that failed together from coming back together.
                pause = failure.after if failure.after is not None else wait * random.uniform(0.75, 1.25)
                if begun or attempt == ATTEMPTS or time.monotonic() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            wait *= 3

    async def _attempt(
        self, path: str, body: dict[str, Any], read: Callable[[aiohttp.ClientResponse], AsyncIterator[Item]]
    ) -> AsyncIterator[Item]:
        where = f"{self._url}{path}"
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._open().post(where, **body)
            if response.status != 200:
                raise await _refusal(where, response)
            async with closing(read(response)) as items:
                async for item in items:
                    yield item
        except aiohttp.InvalidURL as error:
            raise ProviderError(f"{where} is not a URL that can be asked") from error
        except (TimeoutError, aiohttp.ClientError) as error:
            what = where if response is None else f"{where} broke off"
            raise _Passing(f"{what}: {str(error) or type(error).__name__}") from error
        finally:
            if response is not None:
                # Closing the connection is what tells a server to stop generating; a response read to its end is free.
                response.close()

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=SILENCE_TIMEOUT)
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            self._session = aiohttp.ClientSession(timeout=timeout, headers=headers)
            self._loop = loop
        return self._session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _refusal(where: str, response: aiohttp.ClientResponse) -> ProviderError:
    try:
        said = (await response.content.read(MAX_SAID)).decode("utf-8", "replace")
    except (TimeoutError, aiohttp.ClientError):
        said = "(no readable body)"
    text = f"{where} answered {response.status}: {said[:500]}"
    if isinstance(error := failure(text, said), TooLong):
        return error
    asked = response.headers.get("x-should-retry", "").lower()
    # "Too many requests" is also what is said when the money is used up.
    passing = response.status in PASSING and "insufficient_quota" not in said
    if asked == "false" or not (passing or asked == "true"):
        return ProviderError(text)
    return _Passing(text, _retry_after(response))


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds, from `retry-after-ms` or `Retry-After` (a number or a date); None when there is no such wish."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = response.headers.get(name, "").strip()
        try:
            seconds = float(value) * scale
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:
        at = email.utils.parsedate_to_datetime(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, at.timestamp() - time.time())


def failure(text: str, said: str) -> ProviderError:
    """The error with that text, by the kind of what a server `said`."""
    full = any(words in said.lower() for words in FULL)
    return TooLong(text) if full else ProviderError(text)


def error_in(event: Any) -> str:
    """What a JSON answer says went wrong; "" when nothing did. `"error": null` is what some servers put into every chunk."""
    if not isinstance(event, dict):
        return ""
    error = event.get("error")
    if not error and "error" in (event.get("object"), event.get("type")):
        error = event
    if not error:
        return ""
    if isinstance(error, dict) and isinstance(error.get("message"), str) and error["message"]:
        return str(error["message"])[:500]
    return (error if isinstance(error, str) else json.dumps(error))[:500]
