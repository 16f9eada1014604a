"""What a worker is told: options, permissions and the enums of the worker protocol."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from .job import JobContext, JobProcess, JobRequest
from .load import usable_cpus


class WorkerType(IntEnum):
    """Which event opens a job: one per room, per publisher, or per participant (`livekit.JobType`)."""

    ROOM = 0
    PUBLISHER = 1
    PARTICIPANT = 2


@dataclass(frozen=True, slots=True)
class WorkerPermissions:
    """What the agent's participant may do (`livekit.ParticipantPermission`)."""

    can_publish: bool = True
    can_subscribe: bool = True
    can_publish_data: bool = True
    can_update_metadata: bool = True
    can_publish_sources: tuple[int, ...] = ()
    hidden: bool = False


async def _accept(request: JobRequest) -> None:
    await request.accept()


def _no_prewarm(process: JobProcess) -> None:
    """Nothing to load."""


def _default_idle_processes() -> int:
    return max(1, min(int(usable_cpus()), 4))


@dataclass(slots=True)
class WorkerOptions:
    """Everything `cli.run_app` needs to serve jobs.

    `entrypoint_fnc(ctx)` runs in a process of its own for each job. `prewarm_fnc(proc)` runs once, in the warm image that
    every job process is forked from: load models there and put them into `proc.userdata`; start no threads and open no
    connections, a fork keeps neither. `load_fnc()` or `load_fnc(worker)` gives the load as 0..1; offers are refused from
    `load_threshold` on. An empty `agent_name` means automatic dispatch into every new room; a name means explicit
    dispatch only.
    """

    entrypoint_fnc: Callable[[JobContext], Awaitable[None]]
    request_fnc: Callable[[JobRequest], Awaitable[None]] = _accept
    prewarm_fnc: Callable[[JobProcess], Any] = _no_prewarm
    load_fnc: Callable[..., float] | None = None
    load_threshold: float = 0.7
    permissions: WorkerPermissions = field(default_factory=WorkerPermissions)
    worker_type: WorkerType = WorkerType.ROOM
    agent_name: str = ""
    num_idle_processes: int = field(default_factory=_default_idle_processes)
    shutdown_process_timeout: float = 10.0
    """Seconds a job has to end after it was asked to, before its process is killed."""
    initialize_process_timeout: float = 30.0
    """Seconds the warm image may take to run `prewarm_fnc`."""
    drain_timeout: float = 3600.0
    """Seconds that running jobs may take to end after SIGTERM."""
    max_retry: int = 16
    ws_url: str = ""
    """Default: LIVEKIT_URL, else ws://localhost:7880."""
    api_key: str = ""
    api_secret: str = ""

    def __post_init__(self) -> None:
        if not callable(self.entrypoint_fnc):
            raise TypeError("entrypoint_fnc must be a function that takes a JobContext")
        if not inspect.iscoroutinefunction(self.entrypoint_fnc):
            raise TypeError(f"entrypoint_fnc must be an async function, and {self.entrypoint_fnc!r} is not")
        if math.isnan(self.load_threshold) or self.load_threshold <= 0:
            raise ValueError("load_threshold must be greater than 0")
        if self.num_idle_processes < 0:
            raise ValueError("num_idle_processes must not be negative")
        self.worker_type = WorkerType(self.worker_type)

    def resolved(self, *, url: str = "", api_key: str = "", api_secret: str = "") -> WorkerOptions:
        """A copy with the address and keys filled in: arguments first, then these options, then the environment."""
        from dataclasses import replace

        return replace(
            self,
            ws_url=url or self.ws_url or os.environ.get("LIVEKIT_URL", "") or "ws://localhost:7880",
            api_key=api_key or self.api_key or os.environ.get("LIVEKIT_API_KEY", ""),
            api_secret=api_secret or self.api_secret or os.environ.get("LIVEKIT_API_SECRET", ""),
        )
