"""What the server must hear about jobs, kept until it has been heard.

A message handed to a socket that is about to break is lost without a word. The protocol has no receipt for a job's
state, but it has pings, and messages of one connection are read in order: the answer to a ping says that everything
before it has arrived.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from livekit.protocol import agent

MAX_REPORTS = 1024
"""States kept for a server that never answers pings. The oldest go first; they have been sent."""


@dataclass(slots=True)
class _Report:
    job_id: str
    message: agent.WorkerMessage
    mark: int = 0
    """The ping that was sent after it; 0 before."""
    sent: bool = False


class Reports:
    """An ordered outbox whose entries stay until the server has confirmed them."""

    def __init__(self) -> None:
        self._reports: list[_Report] = []
        self._mark = 0
        self.confirmed = asyncio.Event()
        """Set while nothing waits for a confirmation."""
        self.confirmed.set()

    @property
    def jobs(self) -> list[str]:
        """The jobs whose states have not been confirmed."""
        return [report.job_id for report in self._reports]

    def add(self, job_id: str, status: agent.JobStatus, error: str) -> None:
        """Queue a state (`agent.JobStatus`)."""
        update = agent.UpdateJobStatus(job_id=job_id, status=status, error=error)
        self._reports.append(_Report(job_id, agent.WorkerMessage(update_job=update)))
        if len(self._reports) > MAX_REPORTS:
            del self._reports[0]
        self.confirmed.clear()

    def next(self) -> agent.WorkerMessage | None:
        """The next one to send on this connection; it counts as sent."""
        for report in self._reports:
            if not report.sent:
                report.sent = True
                return report.message
        return None

    def mark(self) -> int:
        """The timestamp (ms, never the same twice) of a ping that is sent now."""
        self._mark = max(self._mark + 1, int(time.time() * 1000))
        for report in self._reports:
            if report.sent and not report.mark:
                report.mark = self._mark
        return self._mark

    def confirm(self, mark: int) -> None:
        """A ping was answered."""
        self._reports = [report for report in self._reports if not 0 < report.mark <= mark]
        if not self._reports:
            self.confirmed.set()

    def send_again(self) -> None:
        """A new connection: whatever was not confirmed is sent once more, in order."""
        for report in self._reports:
            report.sent, report.mark = False, 0
