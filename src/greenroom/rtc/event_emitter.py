"""Events: handlers that run in order, sync or async, and iterators over an event."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

from greenroom.tasks import Tasks

from .log import logger

Event = TypeVar("Event", contravariant=True)


def _log(what: str, error: BaseException) -> None:
    if not isinstance(error, SystemExit | KeyboardInterrupt):  # these leave the event loop: whoever runs it has them
        logger.error("%s failed", what, exc_info=error)


_report: Callable[[str, BaseException], None] = _log


def report_handlers(report: Callable[[str, BaseException], None]) -> None:
    """Have `report(what, error)` called with what the program's handlers raise, instead of the log. For whoever runs programs."""
    global _report
    _report = report


def handler_failed(what: str, error: BaseException) -> None:
    """For the SDK: a handler of the program's raised; `what` names it. SystemExit is raised again, unless somebody is told."""
    if isinstance(error, SystemExit) and _report is _log:
        raise error
    _report(what, error)


handler_tasks = Tasks(logger, on_error=lambda task, error: _report(task.get_name(), error))
"""Coroutines of the program's handlers, of all emitters and streams. They end by themselves: nobody else knows what they do."""


def _positional_limit(callback: Callable[..., Any]) -> int | None:
    """How many positional arguments `callback` takes; None when it takes any number."""
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


class _Handler:
    """A callback with its arity, looked at once, when it is registered."""

    __slots__ = ("callback", "limit", "once")

    def __init__(self, callback: Callable[..., Any], once: bool) -> None:
        self.callback = callback
        self.limit = _positional_limit(callback)
        self.once = once


class EventEmitter(Generic[Event]):
    """Handlers run in the order of registration. One that takes fewer arguments gets the first ones only.

    An exception in a handler is logged and does not keep others from running. Of a TypeError, which is the caller's
    mistake, `emit` raises the first when all have run. Coroutine functions are started as tasks.
    """

    def __init__(self) -> None:
        self._events: dict[Any, dict[Callable[..., Any], _Handler]] = {}

    def emit(self, event: Event, *args: Any) -> None:
        error = self._run_handlers(event, args)
        if error is not None:
            raise error

    def _run_handlers(self, event: Event, args: tuple[Any, ...]) -> TypeError | None:
        """All of them, whatever one does. Returns the first TypeError; others are logged."""
        handlers = self._events.get(event)
        wrong: TypeError | None = None
        if not handlers:
            return None
        for handler in list(handlers.values()):
            if handler.once:
                handlers.pop(handler.callback, None)
            taken = args if handler.limit is None else args[: handler.limit]
            try:
                result = handler.callback(*taken)
            except TypeError as error:
                if wrong is not None:
                    handler_failed(f"a handler of {event!r}", error)
                wrong = wrong or error
                continue
            except (
                Exception,
                asyncio.CancelledError,
                SystemExit,
            ) as error:  # the second from the result of something cancelled
                handler_failed(f"a handler of {event!r}", error)
                continue
            if inspect.iscoroutine(result):
                handler_tasks.start(result, f"a handler of {event!r}")
        return wrong

    def on(self, event: Event, callback: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Register a handler, or return a decorator that does. The same handler is registered once."""
        return self._register(event, callback, once=False)

    def once(self, event: Event, callback: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Register a handler that is removed before its first call."""
        return self._register(event, callback, once=True)

    def _register(self, event: Event, callback: Callable[..., Any] | None, *, once: bool) -> Callable[..., Any]:
        if callback is None:

            def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
                self._register(event, function, once=once)
                return function

            return decorator
        self._events.setdefault(event, {})[callback] = _Handler(callback, once)
        return callback

    def off(self, event: Event, callback: Callable[..., Any]) -> None:
        """Remove a handler. KeyError when the event never had one; a handler that is gone already is fine."""
        self._events[event].pop(callback, None)

    async def events(self, event: Event, *, capacity: int = 1000) -> AsyncIterator[tuple[Any, ...]]:
        """Iterate over the arguments of each `event` from now on. Beyond `capacity` unread ones the oldest go."""
        waiting: deque[tuple[Any, ...]] = deque(maxlen=capacity)
        ready = asyncio.Event()

        def collect(*args: Any) -> None:
            waiting.append(args)
            ready.set()

        self.on(event, collect)
        try:
            while True:
                while waiting:
                    yield waiting.popleft()
                ready.clear()
                await ready.wait()
        finally:
            self.off(event, collect)
