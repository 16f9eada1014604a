"""Tracebacks as the author of an app wants them: from the first line of the app's own code on."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path

from .speech.protocols import ProviderError

PACKAGE = str(Path(__file__).resolve().parents[1])
RUNNERS = (str(Path(asyncio.__file__).parent), "uvloop/", "<frozen")
"""What runs an app."""


def users_traceback(error: BaseException) -> str:
    """The formatted traceback without the frames of this package, of `runpy` and of the event loop that led to the app.

    Frames that follow the app's stay: there the app called something of ours, and where is worth knowing. An error
    that never passed through the app's code keeps all its frames, but for a syntax error, which says itself where it is.
    """
    whole = traceback.TracebackException.from_exception(error)
    part: traceback.TracebackException | None = whole
    seen: set[int] = set()
    while part is not None and id(part) not in seen:
        seen.add(id(part))
        frames = list(part.stack)
        nowhere = len(frames) if part.exc_type is not None and issubclass(part.exc_type, SyntaxError) else 0
        first = next((index for index, frame in enumerate(frames) if not _is_ours(frame.filename)), nowhere)
        part.stack = traceback.StackSummary.from_list(frames[first:])
        part = part.__cause__ or part.__context__
    return "".join(whole.format()).rstrip()


def failure_in_words(error: BaseException) -> str:
    """One line: the type and the message; of a provider that is missing, only its sentence."""
    if isinstance(error, ProviderError):
        return str(error)
    return "".join(traceback.format_exception_only(error)).strip()


def failure_in_full(error: BaseException) -> str:
    """For the end of a line that says what failed: `users_traceback` below it; of a missing provider, only its sentence."""
    return f" {error}" if isinstance(error, ProviderError) else f"\n{users_traceback(error)}"


def _is_ours(filename: str) -> bool:
    return filename.startswith((PACKAGE, *RUNNERS))
