"""Tracebacks as the author of an app wants them: from the first line of the app's own code on."""

from __future__ import annotations

import traceback
from pathlib import Path

PACKAGE = str(Path(__file__).resolve().parents[1])


def users_traceback(error: BaseException) -> str:
    """The formatted traceback without the frames of this package and of `runpy` that led to the app.

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


def _is_ours(filename: str) -> bool:
    return filename.startswith((PACKAGE, "<frozen"))
