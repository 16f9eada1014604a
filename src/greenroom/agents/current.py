"""The job that this process serves, for what an app makes without naming it, such as a `Transcriber`."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["ServedJob", "serve", "served_job"]


class ServedJob(Protocol):
    def raised(self, what: str, error: BaseException) -> None:
        """`what` of the app's raised `error` where nobody waits for it."""

    def heard(self, track: Any, event: Any) -> None:
        """A `TranscriptionEvent` of a transcriber that listens to `track`."""


_job: ServedJob | None = None


def serve(job: ServedJob) -> None:
    """From now on this process serves `job`, and no other."""
    global _job
    _job = job


def served_job() -> ServedJob | None:
    """None in a process that serves none."""
    return _job
