"""The agent workers that jobs may be given to, wherever their sockets are. Knows workers, not rooms: `dispatch` decides who
gets what, `agent_hub` holds the sockets of this node, and a router may add the workers of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from livekit.protocol import agent, models

__all__ = ["Worker", "WorkerListener", "Workers"]


class Worker(Protocol):
    """One registered worker, as long as its socket is open."""

    @property
    def id(self) -> str: ...
    @property
    def api_key(self) -> str:
        """Of its token: its agents' tokens are signed by the same."""

    @property
    def agent_name(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def deployment(self) -> str: ...
    @property
    def job_type(self) -> int: ...
    @property
    def permissions(self) -> models.ParticipantPermission:
        """What its agents may do."""

    @property
    def load(self) -> float:
        """From 0 to 1, as it reports it."""

    @property
    def available(self) -> bool:
        """It is there, and not full."""

    async def offer(self, job: agent.Job) -> agent.AvailabilityResponse | None:
        """Ask whether it takes the job. None when it does not answer in time or is gone."""

    async def assign(self, job: agent.Job, token: str) -> bool:
        """False when it is gone, as for `terminate`."""

    async def terminate(self, job_id: str) -> bool: ...


class WorkerListener(Protocol):
    """What the dispatcher wants to know. Called on the event loop; must not block."""

    def worker_ready(self, worker: Worker) -> None:
        """It registered, or stopped being full."""

    def worker_gone(self, worker: Worker) -> None: ...

    def job_updated(self, worker: Worker, update: agent.UpdateJobStatus) -> None:
        """Of any job that the worker has, the listener's or not."""

    async def jobs_kept(self, worker: Worker, job_ids: Sequence[str]) -> set[str]:
        """After a reconnect: jobs that the worker still runs. Returns those that it may go on with as far as the listener
        knows. The others end, unless another listener knows them."""


class Workers:
    """All workers, and who is told of them."""

    def __init__(self) -> None:
        self.by_id: dict[str, Worker] = {}
        self.registered = asyncio.Event()
        """Set while there are workers."""
        self._listeners: list[WorkerListener] = []

    def __len__(self) -> int:
        return len(self.by_id)

    def listen(self, listener: WorkerListener) -> Callable[[], None]:
        """Returns what undoes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def matching(self, agent_name: str, deployment: str) -> Iterable[Worker]:
        """Workers, full ones too, that jobs of such a dispatch may run on."""
        return (w for w in self.by_id.values() if w.agent_name == agent_name and w.deployment == deployment)

    def add(self, worker: Worker) -> None:
        """It registered."""
        self.by_id[worker.id] = worker
        self.registered.set()
        self.ready(worker)

    def ready(self, worker: Worker) -> None:
        """It can be offered jobs, newly or again."""
        for listener in list(self._listeners):
            listener.worker_ready(worker)

    def remove(self, worker: Worker) -> None:
        """It is gone. Twice is fine."""
        if self.by_id.pop(worker.id, None) is None:
            return
        if not self.by_id:
            self.registered.clear()
        for listener in list(self._listeners):
            listener.worker_gone(worker)

    def job_updated(self, worker: Worker, update: agent.UpdateJobStatus) -> None:
        for listener in list(self._listeners):
            listener.job_updated(worker, update)

    async def claim(self, worker: Worker, job_ids: Sequence[str]) -> set[str]:
        """It came back with these jobs. Returns those that it may go on with."""
        claimed: set[str] = set()
        for listener in list(self._listeners):
            claimed |= await listener.jobs_kept(worker, job_ids)
        return claimed
