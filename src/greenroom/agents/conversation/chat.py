"""Typed messages: read as far as somebody can have typed, each answered in writing to who wrote it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from greenroom.agents.speech.protocols import reason

__all__ = ["CHAT_TOPIC", "TypedChat"]

logger = logging.getLogger("greenroom.conversation")

CHAT_TOPIC = "lk.chat"
MAX_CHAT_CHARACTERS = 4_000
"""Of a typed message. What is longer is cut off while it arrives: it is neither kept nor waited for."""
MAX_CHATS_ARRIVING = 32
CHAT_WITHIN = 30.0
"""Seconds in which a typed message must have arrived."""


class TypedChat:
    def __init__(
        self,
        room: Any,
        answer: Callable[[str, str], Awaitable[str]],
        own: Callable[[Coroutine[Any, Any, None], str], Any],
        to_room: Callable[[Awaitable[Any], str], Awaitable[None]],
    ) -> None:
        """`await answer(text, identity)`: what is to be written back; empty for nothing. `own` runs a task,
        `to_room` awaits what may fail because the room is gone."""
        self._room = room
        self._answer = answer
        self._own = own
        self._to_room = to_room
        self._arriving = 0

    def start(self) -> None:
        self._room.register_text_stream_handler(CHAT_TOPIC, self._on_chat)

    def stop(self) -> None:
        self._room.unregister_text_stream_handler(CHAT_TOPIC)

    def _on_chat(self, reader: Any, identity: str) -> None:
        if self._arriving >= MAX_CHATS_ARRIVING:
            logger.warning("dropped a typed message of %s: %d are arriving already", identity, self._arriving)
            reader.close()
            return
        self._arriving += 1
        self._own(self._take(reader, identity), "chat")

    async def _take(self, reader: Any, identity: str) -> None:
        try:
            text = (await _read_text(reader)).strip()
        except Exception as error:
            logger.warning("a typed message of %s did not arrive: %s", identity, reason(error))
            return
        finally:
            self._arriving -= 1
        participant = self._room.local_participant
        if not text or identity == participant.identity:
            return
        if written := await self._answer(text, identity):
            sent = participant.send_text(written, topic=CHAT_TOPIC, destination_identities=[identity])
            await self._to_room(sent, "a written answer")


async def _read_text(reader: Any) -> str:
    """A text stream, as far as `MAX_CHAT_CHARACTERS`; the rest is not even received."""
    text = ""
    try:
        async with asyncio.timeout(CHAT_WITHIN):
            async for piece in reader:
                text += piece
                if len(text) >= MAX_CHAT_CHARACTERS:
                    break
    finally:
        reader.close()
    return text[:MAX_CHAT_CHARACTERS]
