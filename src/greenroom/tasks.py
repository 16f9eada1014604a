"""One owner for background tasks: nothing runs unheld, nothing fails unheard, nothing outlives its owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

__all__ = ["Tasks"]

T = TypeVar("T")


class Tasks:
    """The background tasks of one object.

    The event loop holds tasks weakly, so that one nobody keeps may vanish, and an error that nobody asks for is told when
    the task is collected, if ever. Whoever starts tasks has a `Tasks`, starts them with `start`, and ends with `aclose` or,
    where nobody can wait, `cancel`.
    """

    def __init__(
        self, logger: logging.Logger, *, on_error: Callable[[asyncio.Task[Any], BaseException], None] | None = None
    ) -> None:
        """What a task raises goes to `logger` under the task's name, or to `on_error(task, error)`: SystemExit too."""
        self._logger = logger
        self._on_error = on_error
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        return iter(list(self._tasks))

    @property
    def closed(self) -> bool:
        return self._closed

    def start(self, work: Awaitable[T], name: str) -> asyncio.Task[T]:
        """Run `work` as a task of that name on the running loop. After the end it is dropped: the task is cancelled unbegun."""
        task = asyncio.get_running_loop().create_task(_coroutine(work), name=name)
        self.keep(task)
        if self._closed:
            task.cancel()
        return task

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Own a task that somebody else started."""
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._on_error is not None:
            self._on_error(task, error)
        elif not isinstance(
            error, SystemExit | KeyboardInterrupt
        ):  # these leave the event loop: whoever runs it has them
            self._logger.error("%s failed", task.get_name(), exc_info=error)

    def cancel(self) -> None:
        """Cancel all; nothing new starts. They end in the next turns of the loop. Twice is fine."""
        self._closed = True
        for task in self:
            task.cancel()

    async def aclose(self, timeout: float | None = None) -> bool:
        """Cancel all and wait until they ended, `timeout` seconds at most. False when some go on. Twice is fine.

        A task that closes its own owner is left out: it ends by itself.
        """
        self._closed = True
        others = [task for task in self if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        if not others:
            return True
        _, going_on = await asyncio.wait(others, timeout=timeout)
        return not going_on


def _coroutine(work: Awaitable[T]) -> Coroutine[Any, Any, T]:
    if asyncio.iscoroutine(work):
        return work

    async def wait() -> T:
        return await work

    return wait()
