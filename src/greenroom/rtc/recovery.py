"""Mending a lost connection: a resume keeps the session and its media, a full reconnect joins anew."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from livekit.protocol import models, rtc as proto

from .enums import DisconnectReason, from_wire
from .errors import ConnectError
from .log import logger
from .signal_client import SignalClient, client_info, dual_query, join_query
from .transport import Transport

if TYPE_CHECKING:
    from .session import Session

DELAYS = (0.0, 0.3, 1.2, 2.7, 4.8, 7.0, 7.0, 7.0, 7.0, 7.0)
"""Seconds before each attempt, as the official clients wait; from the third on with up to 1 s more."""
JITTER_FROM = 3
RESUME_ATTEMPTS = 3
"""After so many failed resumes a full reconnect is tried."""
DISCONNECT_GRACE = 3.0
"""How long a silent media connection may take to come back by itself."""
LEAVE_GRACE = 1.0
"""How long a `leave` may take after the server ended the media connection: the two travel on different paths."""
RESUME_MEDIA_TIMEOUT = 15.0


class ResumeRefused(Exception):
    """The server does not know the session any more."""


class SessionOver(Exception):
    """Somebody ended the session meanwhile, and the server says why: there is nothing to come back to."""


class Recovery:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._task: asyncio.Task[None] | None = None
        self._full = False
        self._grace: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self, *, full: bool) -> None:
        """Begin, or make the recovery that runs a full one. Before the first connect there is nothing to mend."""
        session = self._session
        if session.closed or session.leaving:
            return
        self._full |= full
        if self.running:
            return
        if not session.connected:
            session.primary.fail("the server closed the connection")
            return
        self._task = session.tasks.start(self._run(), "reconnect")

    def start_unless_back(self, transport: Transport) -> None:
        """The media connection is silent: resume if it stays so."""
        self._start_later(transport, DISCONNECT_GRACE, full=False)

    def start_unless_told_to_leave(self, transport: Transport) -> None:
        """The media connection was ended: join anew, unless the reason is already on its way."""
        self._start_later(transport, LEAVE_GRACE, full=True)

    def _start_later(self, transport: Transport, delay: float, *, full: bool) -> None:
        if self._grace is not None:
            self._grace.cancel()

        def check() -> None:
            self._grace = None
            session = self._session
            if not session.closed and transport in (session.publisher, session.subscriber) and not transport.connected:
                self.start(full=full)

        self._grace = self._session.loop.call_later(delay, check)

    async def wait(self, timeout: float) -> None:
        """Until the recovery is over. ConnectError when it takes longer than `timeout` or fails."""
        if self._task is not None:
            done, _ = await asyncio.wait([self._task], timeout=timeout)
            if not done or self._session.closed:
                raise ConnectError("the room is not connected")

    def stop(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _run(self) -> None:
        session = self._session
        session.listener.on_reconnecting()
        attempt = 0
        while attempt < len(DELAYS):
            delay = DELAYS[attempt]
            if attempt >= JITTER_FROM:
                delay += random.random()
            await asyncio.sleep(delay)
            if attempt >= RESUME_ATTEMPTS:
                self._full = True
            try:
                if self._full:
                    await self._restart()
                    self._full = False
                    if session.signal is not None:
                        await self._unless_lost(session.signal, session.listener.on_restarted())
                else:
                    await self._resume()
                    if not self._full:
                        session.listener.on_resumed()
                if self._full:
                    # The server found meanwhile that its picture and ours cannot be brought together like this.
                    attempt += 1
                    continue
                if session.signal is not None and not session.signal.closed:
                    return
                logger.info("the connection was lost again")
                attempt = 0
                continue
            except SessionOver:
                return
            except ResumeRefused as refused:
                logger.info("resume refused (%s): joining anew", refused)
                self._full = True
                continue
            except ConnectError as error:
                logger.info("reconnect attempt %d of %d failed: %s", attempt + 1, len(DELAYS), error)
                if self._full and error.status in (401, 403):
                    break
            except Exception:
                logger.exception("reconnect attempt %d failed", attempt + 1)
            attempt += 1
        session.finish(session.refused or DisconnectReason.SIGNAL_CLOSE)

    async def _close_signal(self) -> None:
        session = self._session
        signal, session.signal = session.signal, None
        if signal is not None:
            await signal.close()

    async def _resume(self) -> None:
        session = self._session
        await self._close_signal()
        settings = session.settings()
        reason = models.ReconnectReason.RR_SIGNAL_DISCONNECTED
        if session.single:
            path = "/rtc/v1"
            query = join_query(
                proto.JoinRequest(
                    client_info=client_info(),
                    connection_settings=settings,
                    reconnect=True,
                    reconnect_reason=reason,
                    participant_sid=session.participant_sid,
                )
            )
        else:
            path = "/rtc"
            query = dual_query(settings, participant_sid=session.participant_sid, reason=reason)
        signal, first = await session.open_signal(path, query)
        kind = first.WhichOneof("message")
        if kind == "leave":
            if session.is_final(first.leave):
                session.tasks.start(signal.close(), "close signalling")
                session.finish(from_wire(DisconnectReason, first.leave.reason))
                raise SessionOver
            await signal.close()
            raise ResumeRefused(from_wire(DisconnectReason, first.leave.reason).name)
        session.signal = signal
        session.listener.on_resuming(session.unsent())
        signal.start(session.ping_interval, session.ping_timeout)
        session.send(proto.SignalRequest(sync_state=session.listener.sync_state()))
        if kind != "reconnect":
            session.on_message(first)
        publisher = session.publisher
        if publisher is None:
            raise ResumeRefused("there is no media connection")
        publisher.resend_pending_offer()
        session.send_queued()
        if session.single or session.publisher_offered:
            await self._unless_lost(signal, publisher.negotiate(ice_restart=True))
        await self._unless_lost(signal, session.primary.wait_connected(RESUME_MEDIA_TIMEOUT))
        if kind == "reconnect" and first.reconnect.last_message_seq:
            session.reliable.resend(publisher, first.reconnect.last_message_seq)

    @staticmethod
    async def _unless_lost(signal: SignalClient, awaitable: Awaitable[None]) -> None:
        """Wait, but not on a server that is gone again."""
        task = asyncio.ensure_future(awaitable)
        try:
            await asyncio.wait({task, signal.lost}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ConnectError("the connection was lost again")
            task.result()
        finally:
            task.cancel()

    async def _restart(self) -> None:
        session = self._session
        await self._close_signal()
        session.drop_queued()
        session.connected = False
        session.reliable.reset()
        try:
            join = await session.join_once()
            # Before any other message is read: they speak of the new session.
            session.listener.on_rejoined(join)
            await session.wait_media()
        except ConnectError:
            session.connected = True
            raise
