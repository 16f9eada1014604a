"""Brings agents into rooms: keeps what every room wants, and has workers found for what is missing.

A room wants its dispatches, and a dispatch wants one job a room, a publisher or a participant, by the types of the
workers that are there. `_reconcile` compares that with the jobs there are. Everything is that one case: a new room, a
worker that registers later than the room opened, a participant that joins, a worker that died.

How a job finds its worker is in `placing`, how it ends in `job_watch`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

from livekit.protocol import agent, agent_dispatch, models, room as room_messages

from greenroom.tasks import Tasks

from .auth import Authenticator
from .job_book import JobBook
from .job_watch import JobWatch
from .jobs import Dispatch, JobRecord, JobTimes, Slot, now_ns
from .manager import RoomEvent, RoomManager
from .placing import Placer
from .room import Room
from .workers import Worker, Workers

__all__ = ["DEV_MAX_LOSSES", "MAX_LOSSES", "Dispatcher", "TooManyDispatches"]

logger = logging.getLogger("greenroom.server.agents")

MAX_LOSSES = 3
DEV_MAX_LOSSES = 100
"""While a program is written, its worker is killed whenever a file is saved."""
STABLE_NS = 10 * 10**9
"""A job that ran this long starts that count anew."""
MAX_DISPATCHES = 128
"""Dispatches that a room may have at a time."""


class TooManyDispatches(RuntimeError):
    """The room has as many dispatches as it may."""


class Dispatcher:
    """Listens to the room manager and to the workers."""

    def __init__(
        self,
        manager: RoomManager,
        workers: Workers,
        authenticator: Authenticator,
        *,
        max_losses: int = MAX_LOSSES,
        times: JobTimes | None = None,
    ) -> None:
        """`max_losses`: times in a row that a job's worker may die young before the job is given up."""
        self._max_losses = max_losses
        self._manager = manager
        self._workers = workers
        self._rooms: dict[str, dict[str, Dispatch]] = {}
        """Room sid to its dispatches by id."""
        self.on_job_changed: Callable[[agent.Job], None] | None = None
        """Called on the event loop with each job whose worker said something of it, and with each that ended."""
        self._tasks = Tasks(logger)
        self._book = JobBook(self._job_changed)
        self._watch = JobWatch(manager, self._book, self._tasks, times or JobTimes(), self._lost)
        self._placer = Placer(workers, authenticator, self._book, self._still_wanted)
        self._unsubscribe: list[Callable[[], None]] = []

    def start(self) -> None:
        self._unsubscribe = [self._workers.listen(self), self._manager.on(self._on_event)]

    async def close(self) -> None:
        """Nothing is offered any more. Twice is fine."""
        for undo in self._unsubscribe:
            undo()
        await self._tasks.aclose()

    def _job_changed(self, job: agent.Job) -> None:
        if self.on_job_changed is not None:
            self.on_job_changed(job)

    async def wait_for_worker(self) -> None:
        """Returns when at least one worker is registered."""
        await self._workers.registered.wait()

    @property
    def worker_count(self) -> int:
        return len(self._workers)

    @property
    def open_jobs(self) -> Sequence[agent.Job]:
        """Jobs that were assigned and have not ended, those of closed rooms included."""
        return [record.job for record in self._book.open]

    # --- what the API asks ---------------------------------------------------------------------------------------

    async def create(self, request: agent_dispatch.CreateAgentDispatchRequest) -> agent_dispatch.AgentDispatch:
        """Add a dispatch to a room, which is created when missing. Raises TooManyRooms, MediaFailed, TooManyDispatches."""
        room = self._manager.get_room(request.room)
        if room is None:
            # Named at its creation, or the room would want the unnamed agents as well.
            wish = agent_dispatch.RoomAgentDispatch(
                agent_name=request.agent_name,
                metadata=request.metadata,
                restart_policy=request.restart_policy,
                deployment=request.deployment,
                attributes=request.attributes,
            )
            creation = room_messages.CreateRoomRequest(name=request.room, agents=[wish])
            room = await self._manager.create_room(creation)
            if list(room.request.agents) == [wish]:
                (dispatch,) = self._wanted(room).values()
                return dispatch.to_proto()
        wanted = self._wanted(room)
        if len(wanted) >= MAX_DISPATCHES:
            raise TooManyDispatches(f"room {room.name} has {MAX_DISPATCHES} dispatches already")
        dispatch = Dispatch.create(room.name, request)
        wanted[dispatch.info.id] = dispatch
        self._reconcile(room)
        return dispatch.to_proto()

    def listed(self, room_name: str, dispatch_id: str = "") -> Sequence[agent_dispatch.AgentDispatch]:
        """LookupError when the room does not exist."""
        wanted = self._wanted(self._find_room(room_name))
        return [d.to_proto() for key, d in wanted.items() if not dispatch_id or key == dispatch_id]

    async def delete(self, room_name: str, dispatch_id: str) -> agent_dispatch.AgentDispatch:
        """End a dispatch and its jobs. LookupError when the room or the dispatch does not exist."""
        room = self._find_room(room_name)
        dispatch = self._wanted(room).pop(dispatch_id, None)
        if dispatch is None:
            raise LookupError("dispatch does not exist")
        dispatch.deleted = True
        dispatch.info.state.deleted_at = now_ns()
        for record in list(dispatch.jobs.values()):
            if not record.ended:
                if record.worker:
                    await record.worker.terminate(record.job.id)
                self._watch.remove_later(room, record)
        return dispatch.to_proto()

    def _find_room(self, name: str) -> Room:
        room = self._manager.get_room(name)
        if room is None:
            raise LookupError("requested room does not exist")
        return room

    # --- what the room manager tells -----------------------------------------------------------------------------

    def _on_event(self, event: RoomEvent) -> None:
        participant = event.participant
        is_agent = participant is not None and participant.kind == models.ParticipantInfo.AGENT
        if event.kind == "room_finished":
            self._room_finished(event.room)
        elif event.kind in ("participant_left", "participant_connection_aborted"):
            assert participant is not None
            if is_agent:
                self._watch.agent_left(event.room, participant.sid)
            for dispatch in self._wanted(event.room).values():
                for key in [key for key in dispatch.slots if key[2] == participant.sid]:
                    del dispatch.slots[key]
        elif event.kind == "participant_joined" and is_agent:
            assert participant is not None
            self._watch.agent_joined(event.room, participant.identity, participant.sid)
        elif event.kind in ("room_started", "participant_joined", "track_published"):
            self._reconcile(event.room)

    def _room_finished(self, room: Room) -> None:
        for dispatch in self._rooms.pop(room.sid, {}).values():
            dispatch.deleted = True
            for record in dispatch.jobs.values():
                # an agent that was in the room ends by being disconnected; one on its way there must be told
                if not record.ended and not record.joined and record.worker:
                    self._watch.terminate(record.worker, record.job.id)

    # --- what the workers tell -----------------------------------------------------------------------------------

    def worker_ready(self, worker: Worker) -> None:
        for room in list(self._manager.rooms.values()):
            self._reconcile(room, only=worker)

    def worker_gone(self, worker: Worker) -> None:
        self._watch.worker_gone(worker)

    def job_updated(self, worker: Worker, update: agent.UpdateJobStatus) -> None:
        self._watch.job_updated(worker, update)

    async def jobs_kept(self, worker: Worker, job_ids: Sequence[str]) -> set[str]:
        return await self._watch.jobs_kept(worker, job_ids)

    def _lost(self, room: Room, record: JobRecord) -> None:
        """The worker died with the job. Another one gets it, a few times."""
        started = record.job.state.started_at
        slot = record.slot
        slot.losses = 1 if started and now_ns() - started > STABLE_NS else slot.losses + 1
        dispatch = self._wanted(room).get(record.job.dispatch_id)
        if dispatch is None or dispatch.info.restart_policy == agent_dispatch.JobRestartPolicy.JRP_NEVER:
            return
        if slot.losses >= self._max_losses:
            logger.warning(
                "job for %r in room %s is given up: its workers keep dying", dispatch.info.agent_name, room.name
            )
            return
        slot.state = "open"
        self._reconcile(room)

    # --- filling what is missing ---------------------------------------------------------------------------------

    def _wanted(self, room: Room) -> dict[str, Dispatch]:
        """The room's dispatches. A room that names no agents wants the unnamed ones."""
        wanted = self._rooms.get(room.sid)
        if wanted is None:
            if self._manager.get_room(room.name) is not room:
                return {}
            wishes = list(room.request.agents) or [agent_dispatch.RoomAgentDispatch()]
            dispatches = [Dispatch.create(room.name, wish) for wish in wishes]
            wanted = self._rooms[room.sid] = {dispatch.info.id: dispatch for dispatch in dispatches}
        return wanted

    def _reconcile(self, room: Room, only: Worker | None = None) -> None:
        if self._tasks.closed:
            return
        for dispatch in self._wanted(room).values():
            info = dispatch.info
            if only and (only.agent_name, only.deployment) != (info.agent_name, info.deployment):
                continue
            groups = {(w.job_type, w.namespace) for w in self._workers.matching(info.agent_name, info.deployment)}
            if not groups and info.agent_name and not dispatch.waiting_said:
                dispatch.waiting_said = True
                logger.warning("room %s waits: no agent worker named %r is registered", room.name, info.agent_name)
            for job_type, namespace in sorted(groups):
                for participant_sid in _subjects(room, job_type):
                    key = (job_type, namespace, participant_sid)
                    slot = dispatch.slots.setdefault(key, Slot(key))
                    if slot.state == "open" and (only or asyncio.get_running_loop().time() >= slot.not_before):
                        slot.state = "placing"
                        self._tasks.start(self._place(room, dispatch, slot), f"dispatch to room {room.name}")

    async def _place(self, room: Room, dispatch: Dispatch, slot: Slot) -> None:
        try:
            delay = await self._placer.place(room, dispatch, slot)
        finally:
            if slot.state == "placing":
                slot.state = "open"
        if delay:
            await asyncio.sleep(delay)
            if self._watch.is_open(room):
                self._reconcile(room)

    def _still_wanted(self, room: Room, dispatch: Dispatch, slot: Slot) -> bool:
        return self._watch.is_open(room) and not dispatch.deleted and dispatch.slots.get(slot.key) is slot


def _subjects(room: Room, job_type: int) -> Iterator[str]:
    """Who gets a job of this type: participant sids, or "" for the room itself."""
    if job_type == agent.JobType.JT_ROOM:
        yield ""
        return
    for participant in room.participants.values():
        if participant.is_dependent:
            continue
        if job_type == agent.JobType.JT_PARTICIPANT or participant.is_publisher:
            yield participant.sid
