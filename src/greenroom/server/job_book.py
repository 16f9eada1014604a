"""The jobs there are: those that go on, and those that were given up with their worker and may yet prove to have ended well."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from livekit.protocol import agent

from .jobs import ENDED, JobRecord
from .workers import Worker

__all__ = ["JobBook"]

job_logger = logging.getLogger("greenroom.server.agents.jobs")
"""Apart, for those who hear of a job's end from the worker beside them."""

MAX_MISSING = 1024
"""Jobs lost with their workers that are remembered for a late word."""


class JobBook:
    """Every job by id. `changed` is called with each job whose state was told, or that ended."""

    def __init__(self, changed: Callable[[agent.Job], None]) -> None:
        self._open: dict[str, JobRecord] = {}
        self._missing: dict[str, JobRecord] = {}
        """Booked as lost with their worker, for the worker that comes back late and knows better."""
        self._changed = changed

    @property
    def open(self) -> Sequence[JobRecord]:
        """Jobs that were assigned and have not ended, those of closed rooms included."""
        return list(self._open.values())

    def of_room(self, sid: str) -> list[JobRecord]:
        """The open ones of a room."""
        return [record for record in self._open.values() if record.job.room.sid == sid]

    def of_worker(self, worker: Worker) -> list[JobRecord]:
        """The open ones that it has."""
        return [record for record in self._open.values() if record.worker is worker]

    def get(self, job_id: str) -> JobRecord | None:
        """An open job."""
        return self._open.get(job_id)

    def find(self, job_id: str) -> JobRecord | None:
        """An open job, or one that was given up."""
        return self._open.get(job_id) or self._missing.get(job_id)

    def add(self, record: JobRecord) -> None:
        self._open[record.job.id] = record

    def discard(self, record: JobRecord) -> None:
        """It was never taken."""
        self._open.pop(record.job.id, None)

    def update(self, record: JobRecord, status: agent.JobStatus, error: str) -> None:
        """It goes on."""
        record.update(status, error)
        self._changed(record.job)

    def end(self, record: JobRecord, status: agent.JobStatus, error: str) -> None:
        record.update(status, error)
        record.slot.state = "done"
        self._open.pop(record.job.id, None)
        level = logging.WARNING if status == agent.JobStatus.JS_FAILED else logging.INFO
        name = agent.JobStatus.Name(status)
        job_logger.log(level, "job %s in room %s: %s %s", record.job.id, record.job.room.name, name, error)
        self._changed(record.job)

    def lose(self, record: JobRecord) -> None:
        """Its worker is gone for good, as it seems."""
        self.end(record, agent.JobStatus.JS_FAILED, "agent worker is gone")
        self._missing[record.job.id] = record
        while len(self._missing) > MAX_MISSING:
            del self._missing[next(iter(self._missing))]

    def correct(self, worker: Worker, update: agent.UpdateJobStatus) -> None:
        """A job that was given up with its worker ended in truth otherwise."""
        record = self._missing.get(update.job_id)
        if record is None or record.worker is not worker or update.status not in ENDED:
            return
        del self._missing[update.job_id]
        record.update(update.status, update.error)
        if record.slot.state == "open":
            record.slot.state = "done"  # nobody has it yet, and nobody needs it any more
