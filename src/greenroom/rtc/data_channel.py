"""A data channel of a peer connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .errors import ConnectError
from .event_emitter import EventEmitter
from .log import logger

if TYPE_CHECKING:
    from .native_peer import NativePeer

LOW_MARK = 64 << 10
"""Bytes; a channel with no more than these counts as drained."""
HIGH_MARK = 1 << 20
"""Bytes; `send` waits while more are buffered."""
MAX_EARLY = 4 << 20
"""Bytes of messages of one connection that wait for the first handler of "message"."""
EARLY_OVERHEAD = 100
"""What such a message costs besides its bytes."""

ChannelEvent = Literal["open", "message", "close"]


@dataclass(slots=True)
class EarlyMessages:
    """What the channels of a connection may still keep for handlers to come."""

    room: int = MAX_EARLY


class DataChannel(EventEmitter[ChannelEvent]):
    """Messages, text (`str`) and binary (`bytes`), of 1 byte to 256 KiB each. Made by a `PeerConnection`.

    Events: "open"; "message" with the message; "close". Messages that come before the first handler of "message" wait for
    it, up to 4 MiB of a connection.
    """

    def __init__(
        self,
        peer: NativePeer,
        early: EarlyMessages,
        label: str,
        ordered: bool | None = None,
        max_retransmits: int | None = None,
    ) -> None:
        super().__init__()
        self._peer = peer
        self._label = label
        self._ordered = ordered
        self._max_retransmits = max_retransmits
        self._closed = False
        self._early: deque[str | bytes] = deque()
        self._early_cost = 0
        self._budget = early

    @property
    def label(self) -> str:
        return self._label

    @property
    def ordered(self) -> bool | None:
        """None of a channel that the other side opened: the native core does not tell."""
        return self._ordered

    @property
    def max_retransmits(self) -> int | None:
        return self._max_retransmits

    @property
    def ready_state(self) -> str:
        """ "connecting", "open" or "closed"."""
        if self._closed or self._peer.closed:
            return "closed"
        return "open" if self._label in self._peer.channels else "connecting"

    @property
    def buffered_amount(self) -> int:
        """Bytes that wait to be sent."""
        return 0 if self.ready_state != "open" else self._peer.peer.buffered(self._label)

    async def wait_open(self, timeout: float = 15.0) -> None:
        """ConnectError when it is not open within `timeout` seconds, or never will be."""
        await self._peer.wait_for(
            lambda: self.ready_state != "connecting", timeout, f"data channel {self._label!r} could not be opened"
        )
        if self.ready_state == "closed":
            raise ConnectError(f"data channel {self._label!r} is closed")

    async def send(self, message: str | bytes | bytearray | memoryview, timeout: float = 15.0) -> None:
        """Queue a message; waits while more than 1 MiB is buffered.

        Raises:
            ConnectError: the channel is not open, or its buffer did not drain within `timeout` seconds.
            ValueError: the message is larger than 256 KiB, or empty: the native core receives empty messages and cannot
                send them.
        """
        if not len(message):
            raise ValueError("an empty message cannot be sent")
        if self.ready_state != "open":
            raise ConnectError(f"data channel {self._label!r} is {self.ready_state}, not open")
        if self.buffered_amount > HIGH_MARK:
            await self.wait_drained(timeout)
        try:
            if isinstance(message, str):
                self._peer.peer.send_text(self._label, message)
            else:
                self._peer.peer.send(self._label, bytes(message))
        except (RuntimeError, BufferError) as error:
            raise ConnectError(f"data channel {self._label!r} cannot send: {error}") from None

    async def wait_drained(self, timeout: float = 15.0) -> None:
        """Until no more than 64 KiB are buffered. ConnectError when that takes longer than `timeout` seconds, or when the
        channel closes with messages unsent."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while (left := self.buffered_amount) > LOW_MARK:
            remaining = deadline - loop.time()
            if remaining <= 0:
                raise ConnectError(f"data channel {self._label!r} holds {left} bytes after {timeout:g} s")
            # What is announced may be that it was drained before the latest messages: look again.
            await self._peer.wait_drained(self._label, remaining)
        if self.ready_state != "open":
            raise ConnectError(f"data channel {self._label!r} was closed")

    async def aclose(self) -> None:
        """Close it on both sides; what is buffered may be lost. Twice is fine.

        Better done by the side that sends: SCTP gives up the whole connection when much of what the other side has sent
        already (about a megabyte) comes for a channel that was closed here.
        """
        if self._closed:
            return
        if self.ready_state == "open":
            try:
                self._peer.peer.close_channel(self._label)
            except RuntimeError as error:
                logger.debug("data channel %r: %s", self._label, error)
        self.closed()

    def on(self, event: ChannelEvent, callback: Callable[..., Any] | None = None) -> Callable[..., Any]:
        registered = super().on(event, callback)
        if event == "message" and callback is not None:
            for message in self._take_early():
                self.tell("message", message)
        return registered

    # --- the connection's side ---------------------------------------------------------------------------------------

    def opened(self) -> None:
        self.tell("open")

    def received(self, payload: bytes, binary: bool) -> None:
        message = payload if binary else payload.decode("utf-8", "replace")
        if self._events.get("message"):
            self.tell("message", message)
        elif (cost := len(payload) + EARLY_OVERHEAD) <= self._budget.room:
            self._early.append(message)
            self._early_cost += cost
            self._budget.room -= cost
        else:
            logger.warning("dropped a message on data channel %r: nobody listens", self._label)

    def _take_early(self) -> deque[str | bytes]:
        early, self._early = self._early, deque()
        self._budget.room += self._early_cost
        self._early_cost = 0
        return early

    def closed(self) -> None:
        """It is over. Twice is fine."""
        if not self._closed:
            self._closed = True
            self.tell("close")

    def tell(self, event: ChannelEvent, *arguments: Any) -> None:
        """A mistake in a handler is its author's affair."""
        try:
            self.emit(event, *arguments)
        except TypeError:
            logger.exception("a handler of %r failed", event)
