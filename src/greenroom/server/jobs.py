"""The records of dispatch: which agents a room wants, and the jobs that were made of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TypeAlias

from livekit.protocol import agent, agent_dispatch

from .ids import new_id
from .workers import Worker

__all__ = ["Dispatch", "JobRecord", "JobTimes", "Slot", "SlotKey", "now_ns"]

ENDED = (agent.JobStatus.JS_SUCCESS, agent.JobStatus.JS_FAILED)
KEPT_JOBS = 64
"""Ended jobs that a dispatch remembers."""

SlotKey: TypeAlias = tuple[int, str, str]
"""Job type, namespace, participant sid ("" for a room's job)."""


@dataclass(frozen=True, slots=True)
class JobTimes:
    """How long who is waited for, in seconds."""

    settle: float = 1.0
    """How long the room may trail a worker's report: then what a finished job left behind is removed."""
    back: float = 3.0
    """Time a worker whose socket broke has to come back, before jobs without an agent in the room go to others."""
    afterwork: float = 300.0
    """Time a job may go on after its agent left the room, before it is asked to end."""
    last_word: float = 60.0
    """Time its worker has to say, after that, how it ended."""
    orphan: float = 2.0
    """How often an agent without a worker is looked at. Twice in a row without signalling, and it died with its worker."""
    remove: float = 3.0
    """Time an agent has to leave by itself after its dispatch was deleted."""


def now_ns() -> int:
    return time.time_ns()


@dataclass(slots=True, eq=False)
class JobRecord:
    """A job that was assigned."""

    job: agent.Job
    worker: Worker | None
    """None once its worker is gone."""
    slot: Slot
    api_key: str = ""
    """Of the worker: only one with the same key may claim the job after a broken connection."""
    participant_sid: str = ""
    """The session it has in the room. An identity may have a second life in another job; a session has not."""
    left: bool = False
    """That session has ended."""

    @property
    def identity(self) -> str:
        return self.job.state.participant_identity

    @property
    def joined(self) -> bool:
        """Its participant was seen in the room."""
        return bool(self.participant_sid)

    @property
    def ended(self) -> bool:
        return self.job.state.status in ENDED

    def update(self, status: agent.JobStatus, error: str = "") -> None:
        state = self.job.state
        state.status = status
        state.error = error
        state.updated_at = now_ns()
        if status == agent.JobStatus.JS_RUNNING and not state.started_at:
            state.started_at = state.updated_at
        if status in ENDED:
            state.ended_at = state.updated_at


@dataclass(slots=True, eq=False)
class Slot:
    """A place for one job: what the dispatcher wants to be filled.

    open: nobody has the job. placing: being offered. filled: assigned. done: it ended, or was refused for good.
    """

    key: SlotKey
    state: str = "open"
    losses: int = 0
    """Times in a row that the worker died soon after taking it."""
    refusals: int = 0
    """Rounds in a row in which every worker refused."""
    not_before: float = 0.0
    """Loop time before which it is not offered again."""


@dataclass(slots=True, eq=False)
class Dispatch:
    """An agent wanted in a room (`livekit.AgentDispatch`)."""

    info: agent_dispatch.AgentDispatch
    slots: dict[SlotKey, Slot] = field(default_factory=dict)
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    deleted: bool = False
    waiting_said: bool = False
    """It was logged that no worker is there."""

    @classmethod
    def create(
        cls, room: str, wish: agent_dispatch.RoomAgentDispatch | agent_dispatch.CreateAgentDispatchRequest
    ) -> Dispatch:
        return cls(
            agent_dispatch.AgentDispatch(
                id=new_id("AD"),
                agent_name=wish.agent_name,
                room=room,
                metadata=wish.metadata,
                restart_policy=wish.restart_policy,
                deployment=wish.deployment,
                attributes=wish.attributes,
                state=agent_dispatch.AgentDispatchState(created_at=now_ns()),
            )
        )

    def to_proto(self) -> agent_dispatch.AgentDispatch:
        out = agent_dispatch.AgentDispatch()
        out.CopyFrom(self.info)
        out.state.jobs.extend(record.job for record in self.jobs.values())
        return out

    def add_job(self, record: JobRecord) -> None:
        self.jobs[record.job.id] = record
        ended = [job_id for job_id, job in self.jobs.items() if job.ended]
        for job_id in ended[: max(0, len(ended) - KEPT_JOBS)]:
            del self.jobs[job_id]
