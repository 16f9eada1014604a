"""A native peer connection and what every user of one needs: its state, its channels, early candidates, bounded waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from .engine import Engine
from .errors import ConnectError

MAX_EARLY_CANDIDATES = 100


class NativePeer:
    """Owns a `_native.Peer`. Subclasses negotiate, and override the hooks (`on_...`), which are called from the event loop."""

    def __init__(self, engine: Engine) -> None:
        from greenroom import _native

        self.engine = engine
        self.peer = _native.Peer(engine.native)
        self.connected = False
        self.failure = ""
        self.channels: set[str] = set()
        """Labels of the open data channels."""
        self.sections: dict[str, tuple[str, bool]] = {}
        """mid to (kind, outbound), for statistics."""
        self._early_candidates: list[str] = []
        self._described = False
        self._state_waiters: list[asyncio.Future[None]] = []
        self._drain_waiters: dict[str, dict[asyncio.Future[None], None]] = {}
        """By label, in the order they came."""
        self._closed = False
        self._id = self.peer.id
        engine.peers[self._id] = self._on_event

    @property
    def closed(self) -> bool:
        return self._closed

    # --- hooks -----------------------------------------------------------------------------------------------------

    def on_message(self, label: str, payload: bytes, binary: bool) -> None:
        """A message came on a data channel."""

    def on_channel(self, label: str, is_open: bool) -> None:
        """A data channel was opened, or closed."""

    def on_state(self, state: str) -> None:
        """ "connected", "disconnected", or "failed": then `failure` says why."""

    # --- events ----------------------------------------------------------------------------------------------------

    def _on_event(self, event: tuple[Any, ...]) -> None:
        match event[0]:
            case "data":
                self.on_message(event[2], bytes(event[3]), event[4])
            case "drained":
                self.release(self._drain_waiters.pop(event[2], {}))
            case "connected":
                self.connected, self.failure = True, ""
                self._state_changed()
                self.on_state("connected")
            case "disconnected":
                self.connected = False
                self._state_changed()
                self.on_state("disconnected")
            case "failed":
                self.connected, self.failure = False, str(event[2])
                self._state_changed()
                self._nothing_drains()
                self.on_state("failed")
            case "channel":
                self.channels.add(event[2])
                self._state_changed()
                self.on_channel(event[2], True)
            case "channel_closed":
                self.channels.discard(event[2])
                self.release(self._drain_waiters.pop(event[2], {}))
                self._state_changed()
                self.on_channel(event[2], False)

    @staticmethod
    def release(waiters: Iterable[asyncio.Future[None]]) -> None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _state_changed(self) -> None:
        waiters, self._state_waiters = self._state_waiters, []
        self.release(waiters)

    def fail(self, why: str) -> None:
        """It will not be connected any more: tell those who wait."""
        self.failure = why
        self._state_changed()

    # --- waiting ---------------------------------------------------------------------------------------------------

    async def wait_for(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Until `condition` holds. ConnectError when it does not within `timeout`, or when the connection failed."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    if self._closed:
                        raise ConnectError(f"{what}: the connection was closed")
                    if self.failure:
                        raise ConnectError(f"{what}: {self.failure}")
                    waiter = self.engine.loop.create_future()
                    self._state_waiters.append(waiter)
                    await waiter
        except TimeoutError:
            raise ConnectError(f"{what}: nothing within {timeout:g} s") from None

    async def wait_connected(self, timeout: float) -> None:
        await self.wait_for(lambda: self.connected, timeout, "the media connection could not be made")

    async def wait_channel(self, label: str, timeout: float) -> None:
        await self.wait_for(lambda: label in self.channels, timeout, f"data channel {label} could not be opened")

    async def wait_drained(self, label: str, timeout: float) -> bool:
        """Until the native core says that the channel's buffer was low, or the channel or the connection ends. It may have
        been low before the latest messages: look at the buffer again. False after `timeout`."""
        waiter = self.engine.loop.create_future()
        waiters = self._drain_waiters.setdefault(label, {})
        waiters[waiter] = None
        try:
            done, _ = await asyncio.wait([waiter], timeout=timeout)
        finally:
            waiters.pop(waiter, None)
        return bool(done)

    def _nothing_drains(self) -> None:
        for waiters in self._drain_waiters.values():
            self.release(waiters)

    # --- calling ---------------------------------------------------------------------------------------------------

    @staticmethod
    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        """A native call; what does not fit the state of the connection is a ConnectError."""
        try:
            return function(*arguments)
        except RuntimeError as error:
            raise ConnectError(str(error)) from None

    # --- the rest --------------------------------------------------------------------------------------------------

    def described(self) -> None:
        """The other side's description is known: its candidates can be used."""
        self._described = True
        early, self._early_candidates = self._early_candidates, []
        for candidate in early:
            self.peer.add_candidate(candidate)

    def add_candidate(self, candidate: str) -> bool:
        """Use it, now or once there is a description. False when too many wait for one."""
        if self._described:
            self.peer.add_candidate(candidate)
        elif len(self._early_candidates) < MAX_EARLY_CANDIDATES:
            self._early_candidates.append(candidate)
        else:
            return False
        return True

    def stats(self) -> dict[str, Any]:
        return self.peer.stats()

    def close(self) -> None:
        """Say goodbye. Whoever waits learns it. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        self.connected = False
        self.engine.peers.pop(self._id, None)
        self.peer.close()
        self._state_changed()
        self._nothing_drains()
