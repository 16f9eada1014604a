"""Whose turn it is: costly work runs one piece a turn of the event loop, and rooms take turns.

A reader of a socket that has much to do would otherwise do all of it before anybody else is heard, and a hundred such
readers a hundred times as much. With this, whoever has a cheap request waits for one piece of costly work at most, and
whoever has costly work waits for one piece of every other room, however many of them one room brings.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Hashable
from typing import TypeVar

__all__ = ["Turns"]

T = TypeVar("T")


class Turns:
    """Gives out turns: to groups in a circle, within a group to whoever came first."""

    def __init__(self) -> None:
        self.taken = 0
        """Turns that were given out."""
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        self._circle: deque[Hashable] = deque()
        self._going = False

    async def take(self, group: Hashable) -> None:
        """Returns when it is the caller's turn, never in the turn of the event loop in which it was called."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        waiting = self._waiting.get(group)
        if waiting is None:
            self._waiting[group] = deque((turn,))
            self._circle.append(group)
        else:
            waiting.append(turn)
        if not self._going:
            self._going = True
            loop.call_soon(self._give)
        await turn

    async def run(self, group: Hashable, pieces: Generator[None, None, T]) -> T:
        """Run a generator with one turn for each of its pieces. Returns what it returns."""
        while True:
            await self.take(group)
            try:
                next(pieces)
            except StopIteration as end:
                result: T = end.value
                return result

    def _give(self) -> None:
        """Wake one, who runs in the next turn of the event loop."""
        while self._circle:
            group = self._circle.popleft()
            waiting = self._waiting[group]
            turn = waiting.popleft()
            if waiting:
                self._circle.append(group)
            else:
                del self._waiting[group]
            if not turn.done():  # a task that was cancelled waits for nothing
                turn.set_result(None)
                self.taken += 1
                break
        self._going = bool(self._circle)
        if self._going:
            asyncio.get_running_loop().call_soon(self._give)
