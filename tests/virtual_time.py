"""An event loop whose time passes only when nothing is left to do: people who speak in real time, without the wait."""

from __future__ import annotations

import asyncio
import selectors
import time
from concurrent.futures import Executor
from typing import Any

_machine_time = time.monotonic  # tests replace the module's


def monotonic() -> float:
    """For `time.monotonic`: the running loop's time, or the machine's where none runs."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return _machine_time()


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Waits for files as any; where it would wait for the clock, it moves the loop's clock instead."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if ready := super().select(0):
            return ready
        if timeout is None or self.loop.threads:
            # A thread's work takes no virtual time: whoever waits for it with a timeout has not waited yet.
            return super().select(timeout if timeout is None else max(timeout, 1.0))
        self.loop.pass_time(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`loop.time()` begins at the real clock's and jumps to the next timer as soon as nobody can run before it.

    For code that waits by the loop's clock alone. Other processes and sockets do not know of it; work in the loop's executor
    is waited for in real time, while the virtual clock stands still.
    """

    def __init__(self) -> None:
        self._now = _machine_time()
        self.threads = 0
        """Calls that are at work in an executor."""
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float) -> None:
        self._now += seconds

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self.threads -= 1
