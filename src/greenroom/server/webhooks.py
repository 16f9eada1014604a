"""Signed POSTs about rooms, participants and tracks.

Order is kept for the events of one room at one URL. A receiver that is down loses the oldest events, and the next one
that arrives carries their number.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections import deque
from dataclasses import dataclass, field

import aiohttp
from google.protobuf.json_format import MessageToJson
from livekit.protocol import models, webhook

from greenroom.api.grants import Claims
from greenroom.api.webhook import body_hash
from greenroom.tasks import Tasks

from .auth import Authenticator
from .config import WebhookConfig
from .ids import new_id
from .manager import RoomEvent, RoomManager

__all__ = ["Webhooks"]

logger = logging.getLogger("greenroom.server.webhooks")

TOKEN_TTL = datetime.timedelta(minutes=5)
MAX_WAITING = 200
"""Events that wait for one room and URL."""
MAX_AGE = 30.0
"""Seconds after which an event that waits is dropped."""
RETRIES = 4
MAX_BACKOFF = 30.0
REQUEST_SECONDS = 10.0
FLUSH_SECONDS = 3.0
"""Time that closing gives the waiting events."""

NAMES = {
    "room_started": "room_started",
    "room_finished": "room_finished",
    "participant_active": "participant_joined",
    "participant_left": "participant_left",
    "participant_connection_aborted": "participant_connection_aborted",
    "track_published": "track_published",
    "track_unpublished": "track_unpublished",
}
"""Kind of the manager's event to name of the webhook's."""


@dataclass(slots=True)
class _Queue:
    waiting: deque[tuple[float, webhook.WebhookEvent]] = field(default_factory=deque)
    dropped: int = 0


class Webhooks:
    def __init__(self, config: WebhookConfig, authenticator: Authenticator, manager: RoomManager) -> None:
        self._config = config
        self._authenticator = authenticator
        self._key = config.api_key or authenticator.default_key
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._session: aiohttp.ClientSession | None = None
        self._unsubscribe = manager.on(self._on_event)
        self._tasks = Tasks(logger)
        """One a queue that is not empty."""
        self._closed = False

    def _on_event(self, event: RoomEvent) -> None:
        name = NAMES.get(event.kind)
        filters = self._config.filter_params
        if name is None or name in filters.exclude_events:
            return
        if filters.include_events and name not in filters.include_events:
            return
        message = webhook.WebhookEvent(event=name, id=new_id("EV"), created_at=int(time.time()))
        _fill(message, event)
        for url in self._config.urls:
            self._enqueue(event.room.name, url, message)

    def _enqueue(self, room: str, url: str, message: webhook.WebhookEvent) -> None:
        if self._closed:
            return
        queue = self._queues.get((room, url))
        if queue is None:
            queue = self._queues[room, url] = _Queue()
            self._tasks.start(self._deliver(room, url, queue), f"webhooks of room {room} to {url}")
        if len(queue.waiting) >= MAX_WAITING:
            queue.waiting.popleft()
            queue.dropped += 1
        queue.waiting.append((time.monotonic(), message))

    async def _deliver(self, room: str, url: str, queue: _Queue) -> None:
        try:
            while queue.waiting:
                since, event = queue.waiting.popleft()
                if time.monotonic() - since > MAX_AGE:
                    queue.dropped += 1
                    continue
                message = webhook.WebhookEvent(num_dropped=queue.dropped)
                message.MergeFrom(event)
                if await self._post(url, message):
                    queue.dropped = 0
                else:
                    queue.dropped += 1
        finally:  # whatever ended it, the next event begins anew
            del self._queues[room, url]

    async def _post(self, url: str, message: webhook.WebhookEvent) -> bool:
        body = MessageToJson(message, indent=None).encode()
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS))
        reason = ""
        for attempt in range(RETRIES + 1):
            if attempt:
                await asyncio.sleep(min(2.0 ** (attempt - 1), MAX_BACKOFF))
            token = self._authenticator.sign(Claims(issuer=self._key, sha256=body_hash(body)), TOKEN_TTL)
            headers = {"Authorization": token, "Content-Type": "application/webhook+json"}
            try:
                async with self._session.post(url, data=body, headers=headers) as response:
                    if response.status < 300:
                        return True
                    reason = f"HTTP status {response.status}"
                    if response.status < 500 and response.status != 429:
                        break  # it will not like the same request better later
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                reason = str(error) or type(error).__name__
        logger.warning("webhook %s to %s was not delivered: %s", message.event, url, reason)
        return False

    async def close(self) -> None:
        """Deliver what waits, for a moment; then give up. Twice is fine."""
        self._closed = True
        self._unsubscribe()
        if delivering := list(self._tasks):
            await asyncio.wait(delivering, timeout=FLUSH_SECONDS)
        await self._tasks.aclose()
        if self._session:
            await self._session.close()


def _fill(message: webhook.WebhookEvent, event: RoomEvent) -> None:
    if event.track is None:
        message.room.CopyFrom(event.room.to_proto())
        if event.participant is not None:
            message.participant.CopyFrom(event.participant.to_proto())
        return
    message.room.CopyFrom(models.Room(sid=event.room.sid, name=event.room.name))
    if event.participant is not None:
        participant = event.participant
        message.participant.CopyFrom(models.ParticipantInfo(sid=participant.sid, identity=participant.identity))
    message.track.CopyFrom(event.track)
