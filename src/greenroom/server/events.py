"""The native core's events on their way into Python: in slices, and fairly.

Data messages are the only events that a participant can make as many of as it likes. Each participant's wait in a lane of
its own; lanes take turns, one message each, as far as the participant's budget goes, and after a slice the event loop has
its turn. Other events are few and are handled at once, except that those of a participant stay behind the messages that
came before them: what was sent before the end is delivered before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

from .budgets import DataBudget

__all__ = ["LOSSY_LABELS", "EventQueue"]

logger = logging.getLogger(__name__)

Event = tuple[Any, ...]

SLICE_EVENTS = 64
SLICE_SECONDS = 0.002
"""A slice ends after so many messages or so long, whichever is first."""
LANE_EVENTS = 20_000
LANE_BYTES = 16 * 1024 * 1024
"""What one participant may have waiting; what comes on top is dropped."""
LOSSY_BYTES = 1024 * 1024
"""The same for messages that may be lost: better so than late."""
LOSSY_LABELS = frozenset(("_lossy", "_data_track"))
TOTAL_BYTES = 64 * 1024 * 1024
"""What all may have waiting; beyond it a lane is cut to its equal share."""
EVENT_BYTES = 200
"""What a waiting message takes beside its payload, about."""
ABOUT_A_PEER = frozenset(("connected", "reconnected", "disconnected", "lost", "failed"))


class Owner(Protocol):
    """The participant that a peer connection belongs to."""

    data_budget: DataBudget

    @property
    def closed(self) -> bool: ...


OwnerT = TypeVar("OwnerT", bound=Owner)


class Lane(Generic[OwnerT]):
    __slots__ = ("bytes", "events", "owner")

    def __init__(self, owner: OwnerT) -> None:
        self.owner = owner
        self.events: deque[Event] = deque()
        self.bytes = 0


class EventQueue(Generic[OwnerT]):
    """`add` what the core has; `handle` is called for each event in its time, on the event loop."""

    def __init__(
        self,
        handle: Callable[[Event], None],
        owner: Callable[[int], OwnerT | None],
        dropped: Callable[[OwnerT, str], None],
    ) -> None:
        """`owner`: whose peer connection a number names. `dropped(owner, label)`: told of each message that found no
        room."""
        self._handle = handle
        self._owner = owner
        self._dropped = dropped
        self._lanes: dict[OwnerT, Lane[OwnerT]] = {}
        self._circle: deque[Lane[OwnerT]] = deque()
        """Lanes that may go on now."""
        self._bytes = 0
        self._going: asyncio.Handle | None = None
        self._timers: dict[Lane[OwnerT], asyncio.TimerHandle] = {}
        """Lanes that wait for their budget."""

    @property
    def waiting(self) -> int:
        """Events that were taken from the core and not handled yet."""
        return sum(len(lane.events) for lane in self._lanes.values())

    def add(self, events: Iterable[Event]) -> None:
        """Take events over. The first slice is handled at once, unless an earlier one has still to follow."""
        for event in events:
            kind = event[0]
            if kind == "data":
                if owner := self._owner(event[1]):
                    self._queue(owner, event)
            elif kind in ABOUT_A_PEER and (owner := self._owner(event[1])) and (lane := self._lanes.get(owner)):
                lane.events.append(event)
            else:
                self._run(event)
        if self._going is None:
            self._slice()

    def close(self) -> None:
        """Forget what waits."""
        if self._going:
            self._going.cancel()
            self._going = None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._lanes.clear()
        self._circle.clear()
        self._bytes = 0

    def _queue(self, owner: OwnerT, event: Event) -> None:
        lane = self._lanes.get(owner)
        if lane is None:
            lane = self._lanes[owner] = Lane(owner)
            self._circle.append(lane)
        size = len(event[3]) + EVENT_BYTES
        full = lane.bytes + size > (LOSSY_BYTES if event[2] in LOSSY_LABELS else LANE_BYTES)
        full = full or len(lane.events) >= LANE_EVENTS
        crowded = self._bytes + size > TOTAL_BYTES and lane.bytes + size > TOTAL_BYTES // len(self._lanes)
        if full or crowded:
            self._dropped(owner, event[2])
            return
        lane.events.append(event)
        lane.bytes += size
        self._bytes += size

    def _slice(self) -> None:
        self._going = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        end = now + SLICE_SECONDS
        left = SLICE_EVENTS
        while self._circle and left > 0 and now < end:
            lane = self._circle.popleft()
            if lane.owner.closed:
                self._forget(lane)
                continue
            if wait := lane.owner.data_budget.wait(now):
                self._timers[lane] = loop.call_later(wait, self._again, lane)
                continue
            event = lane.events.popleft()
            if event[0] == "data":
                size = len(event[3])
                lane.bytes -= size + EVENT_BYTES
                self._bytes -= size + EVENT_BYTES
                lane.owner.data_budget.spend(size)
            self._run(event)
            if lane.events:
                self._circle.append(lane)
            elif self._lanes.get(lane.owner) is lane:
                del self._lanes[lane.owner]
            left -= 1
            now = loop.time()
        self._go_on()

    def _again(self, lane: Lane[OwnerT]) -> None:
        del self._timers[lane]
        self._circle.append(lane)
        self._go_on()

    def _go_on(self) -> None:
        if self._circle and self._going is None:
            self._going = asyncio.get_running_loop().call_soon(self._slice)

    def _forget(self, lane: Lane[OwnerT]) -> None:
        self._bytes -= lane.bytes
        if self._lanes.get(lane.owner) is lane:
            del self._lanes[lane.owner]

    def _run(self, event: Event) -> None:
        """One event's failure does not hold back the others."""
        try:
            self._handle(event)
        except Exception:
            logger.exception("event %r failed", event[0])
