"""Brings agents into rooms: keeps what every room wants, and finds workers for what is missing.

A room wants its dispatches, and a dispatch wants one job a room, a publisher or a participant, by the types of the
workers that are there. `_reconcile` compares that with the jobs there are. Everything is that one case: a new room, a
worker that registers later than the room opened, a participant that joins, a worker that died.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, cast

from livekit.protocol import agent, agent_dispatch, models, room as room_messages

from greenroom.api.grants import Claims, VideoGrants

from .agent_hub import AgentHub, Worker
from .auth import Authenticator
from .ids import new_id
from .jobs import Dispatch, JobRecord, Slot, SlotKey, now_ns
from .manager import RoomEvent, RoomManager
from .participant import Participant
from .permissions import source_name
from .room import Room

__all__ = ["DEV_MAX_LOSSES", "MAX_LOSSES", "Dispatcher", "TooManyDispatches"]

logger = logging.getLogger("greenroom.server.agents")
job_logger = logging.getLogger("greenroom.server.agents.jobs")
"""Apart, for those who hear of a job's end from the worker beside them."""

TOKEN_TTL = datetime.timedelta(hours=1)
SETTLE_SECONDS = 1.0
"""How long the room may trail a worker's report: then what a finished job left behind is removed."""
RETURN_SECONDS = 3.0
"""Time a worker whose socket broke has to come back, before jobs without an agent in the room go to others."""
AFTERWORK_SECONDS = 300.0
"""Time a job may go on after its agent left the room, before it is asked to end."""
LAST_WORD_SECONDS = 60.0
"""Time its worker has to say, after that, how it ended."""
ORPHAN_SECONDS = 2.0
"""How often an agent without a worker is looked at. Twice in a row without signalling, and it died with its worker."""
REMOVE_SECONDS = 3.0
"""Time an agent has to leave by itself after its dispatch was deleted."""
MAX_LOSSES = 3
DEV_MAX_LOSSES = 100
"""While a program is written, its worker is killed whenever a file is saved."""
STABLE_NS = 10 * 10**9
"""A job that ran this long starts that count anew."""
MAX_BACKOFF = 30.0
MAX_MISSING = 1024
"""Jobs lost with their workers that are remembered for a late word."""
MAX_DISPATCHES = 128
"""Dispatches that a room may have at a time."""


class TooManyDispatches(RuntimeError):
    """The room has as many dispatches as it may."""


class Dispatcher:
    """Listens to the room manager and to the workers' hub."""

    def __init__(
        self, manager: RoomManager, hub: AgentHub, authenticator: Authenticator, *, max_losses: int = MAX_LOSSES
    ) -> None:
        """`max_losses`: times in a row that a job's worker may die young before the job is given up."""
        self._max_losses = max_losses
        self._manager = manager
        self._hub = hub
        self._authenticator = authenticator
        self._rooms: dict[str, dict[str, Dispatch]] = {}
        """Room sid to its dispatches by id."""
        self._jobs: dict[str, JobRecord] = {}
        """Jobs that have not ended, by id."""
        self._missing: dict[str, JobRecord] = {}
        """Jobs booked as lost with their worker, by id, for the worker that comes back late and knows better."""
        self.on_job_ended: Callable[[agent.Job], None] | None = None
        """Called on the event loop with each job that ended."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsubscribe: Callable[[], None] = lambda: None
        self._closed = False

    def start(self) -> None:
        self._hub.listener = self
        self._unsubscribe = self._manager.on(self._on_event)

    async def close(self) -> None:
        self._closed = True
        self._unsubscribe()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait_for_worker(self) -> None:
        """Returns when at least one worker is registered."""
        await self._hub.registered.wait()

    @property
    def worker_count(self) -> int:
        return len(self._hub.workers)

    @property
    def open_jobs(self) -> Sequence[agent.Job]:
        """Jobs that were assigned and have not ended, those of closed rooms included."""
        return [record.job for record in self._jobs.values()]

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
        for record in dispatch.jobs.values():
            if not record.ended:
                if record.worker:
                    await record.worker.terminate(record.job.id)
                self._spawn(self._remove_later(room, record))
        return dispatch.to_proto()

    def _find_room(self, name: str) -> Room:
        room = self._manager.get_room(name)
        if room is None:
            raise LookupError("requested room does not exist")
        return room

    async def _remove_later(self, room: Room, record: JobRecord) -> None:
        await asyncio.sleep(REMOVE_SECONDS)
        _remove(room, record)

    # --- what the room manager tells -----------------------------------------------------------------------------

    def _on_event(self, event: RoomEvent) -> None:
        participant = event.participant
        is_agent = participant is not None and participant.kind == models.ParticipantInfo.AGENT
        if event.kind == "room_finished":
            self._room_finished(event.room)
        elif event.kind in ("participant_left", "participant_connection_aborted"):
            assert participant is not None
            if is_agent:
                self._agent_left(event.room, participant.sid)
            for dispatch in self._wanted(event.room).values():
                for key in [key for key in dispatch.slots if key[2] == participant.sid]:
                    del dispatch.slots[key]
        elif event.kind == "participant_joined" and is_agent:
            assert participant is not None
            self._agent_joined(event.room, participant.identity, participant.sid)
        elif event.kind in ("room_started", "participant_joined", "track_published"):
            self._reconcile(event.room)

    def _room_finished(self, room: Room) -> None:
        for dispatch in self._rooms.pop(room.sid, {}).values():
            dispatch.deleted = True
            for record in dispatch.jobs.values():
                # an agent that was in the room ends by being disconnected; one on its way there must be told
                if not record.ended and not record.joined and record.worker:
                    self._spawn(_terminate(record.worker, record.job.id))

    def _agent_joined(self, room: Room, identity: str, sid: str) -> None:
        """A job that was not there yet comes first; else an agent joined anew after its connection was lost."""
        records = [record for record in self._open_jobs(room) if record.identity == identity]
        waiting = [record for record in records if not record.joined]
        if records:
            record = (waiting or records)[-1]
            record.participant_sid, record.left = sid, False

    def _agent_left(self, room: Room, sid: str) -> None:
        for record in self._open_jobs(room):
            if record.participant_sid == sid:
                record.left = True
                self._spawn(self._settle_left(room, record))

    async def _settle_left(self, room: Room, record: JobRecord) -> None:
        """An agent left, or was sent away. How its job ends is the worker's to say, as long as there is one."""
        sid = record.participant_sid
        if record.worker is None:
            return  # `_watch_orphan` looks at it
        await asyncio.sleep(AFTERWORK_SECONDS)
        if not self._is_over(room, record, sid) and record.worker:
            await record.worker.terminate(record.job.id)
            await asyncio.sleep(LAST_WORD_SECONDS)
            if not self._is_over(room, record, sid) and record.worker:
                self._end(record, agent.JobStatus.JS_FAILED, "the agent left the room, and its worker did not end it")

    def _is_over(self, room: Room, record: JobRecord, sid: str) -> bool:
        return record.ended or record.participant_sid != sid or room.sid not in self._rooms

    # --- what the hub tells --------------------------------------------------------------------------------------

    def worker_ready(self, worker: Worker) -> None:
        for room in list(self._manager.rooms.values()):
            self._reconcile(room, only=worker)

    def worker_gone(self, worker: Worker) -> None:
        for record in [r for r in self._jobs.values() if r.worker is worker]:
            record.worker = None
            room = self._manager.get_room(record.job.room.name)
            if room is None or room.sid != record.job.room.sid:
                self._spawn(self._lost_in_closed_room(record))
            else:
                self._spawn(self._watch_orphan(room, record))

    async def _lost_in_closed_room(self, record: JobRecord) -> None:
        await asyncio.sleep(RETURN_SECONDS)
        if not record.ended and record.worker is None:
            self._book_lost(record)

    async def _watch_orphan(self, room: Room, record: JobRecord) -> None:
        """A job whose worker is gone: the worker may come back and claim it, and its agent may live on without one.

        An agent lives as long as its own connection, which takes 15 s to be given up. A process that died took its
        signalling with it, and that is seen at once.
        """
        gone = asyncio.get_running_loop().time()
        away = 0
        while True:
            await asyncio.sleep(min(ORPHAN_SECONDS, RETURN_SECONDS))
            if record.ended or record.worker or room.sid not in self._rooms:
                return
            participant = _participant(room, record)
            if participant is None:
                if asyncio.get_running_loop().time() - gone >= RETURN_SECONDS:
                    break
            elif participant.connected_signal:
                away = 0
            elif (away := away + 1) >= 2:
                break
        _remove(room, record)
        self._lost(room, record)

    def job_updated(self, worker: Worker, update: agent.UpdateJobStatus) -> None:
        record = self._jobs.get(update.job_id)
        if record is None:
            self._late_report(worker, update)
            return
        if record.worker is not worker:
            return
        if update.status not in (agent.JobStatus.JS_SUCCESS, agent.JobStatus.JS_FAILED):
            record.update(update.status, update.error)
            return
        self._end(record, update.status, update.error)
        room = self._manager.get_room(record.job.room.name)
        if room is not None and room.sid == record.job.room.sid:
            self._spawn(self._settle_ended(room, record))

    def _late_report(self, worker: Worker, update: agent.UpdateJobStatus) -> None:
        """A job that was given up with its worker ended in truth otherwise."""
        record = self._missing.get(update.job_id)
        if record is None or record.worker is not worker:
            return
        if update.status not in (agent.JobStatus.JS_SUCCESS, agent.JobStatus.JS_FAILED):
            return
        del self._missing[update.job_id]
        record.update(update.status, update.error)
        if record.slot.state == "open":
            record.slot.state = "done"  # nobody has it yet, and nobody needs it any more

    async def _settle_ended(self, room: Room, record: JobRecord) -> None:
        """The process is over; a participant that it left behind would be seen until its connection times out."""
        await asyncio.sleep(SETTLE_SECONDS)
        _remove(room, record)

    def jobs_kept(self, worker: Worker, job_ids: Sequence[str]) -> None:
        """A worker that lost its connection still has these jobs. Its former socket may not be known to be dead yet."""
        for job_id in job_ids:
            record = self._jobs.get(job_id) or self._missing.get(job_id)
            if record is None or (record.job.agent_name, record.api_key) != (worker.agent_name, worker.api_key):
                self._spawn(_terminate(worker, job_id))
                continue
            record.worker = worker
            record.job.state.worker_id = worker.id
            if record.ended:
                self._spawn(_terminate(worker, job_id))  # it came too late: the job is another's
            elif record.left:
                room = self._manager.get_room(record.job.room.name)
                if room is not None and room.sid == record.job.room.sid:
                    self._spawn(self._settle_left(room, record))

    # --- jobs ----------------------------------------------------------------------------------------------------

    def _open_jobs(self, room: Room) -> list[JobRecord]:
        return [record for record in self._jobs.values() if record.job.room.sid == room.sid]

    def _end(self, record: JobRecord, status: agent.JobStatus, error: str) -> None:
        record.update(status, error)
        record.slot.state = "done"
        self._jobs.pop(record.job.id, None)
        level = logging.WARNING if status == agent.JobStatus.JS_FAILED else logging.INFO
        name = agent.JobStatus.Name(status)
        job_logger.log(level, "job %s in room %s: %s %s", record.job.id, record.job.room.name, name, error)
        if self.on_job_ended is not None:
            self.on_job_ended(record.job)

    def _book_lost(self, record: JobRecord) -> None:
        self._end(record, agent.JobStatus.JS_FAILED, "agent worker is gone")
        self._missing[record.job.id] = record
        while len(self._missing) > MAX_MISSING:
            del self._missing[next(iter(self._missing))]

    def _lost(self, room: Room, record: JobRecord) -> None:
        """The worker died with the job. Another one gets it, a few times."""
        started = record.job.state.started_at
        self._book_lost(record)
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
        if self._closed:
            return
        for dispatch in self._wanted(room).values():
            info = dispatch.info
            if only and (only.agent_name, only.deployment) != (info.agent_name, info.deployment):
                continue
            groups = {(w.job_type, w.namespace) for w in self._hub.matching(info.agent_name, info.deployment)}
            if not groups and info.agent_name and not dispatch.waiting_said:
                dispatch.waiting_said = True
                logger.warning("room %s waits: no agent worker named %r is registered", room.name, info.agent_name)
            for job_type, namespace in sorted(groups):
                for participant_sid in _subjects(room, job_type):
                    key = (job_type, namespace, participant_sid)
                    slot = dispatch.slots.setdefault(key, Slot(key))
                    if slot.state == "open" and (only or asyncio.get_running_loop().time() >= slot.not_before):
                        slot.state = "placing"
                        self._spawn(self._place(room, dispatch, slot))

    async def _place(self, room: Room, dispatch: Dispatch, slot: Slot) -> None:
        try:
            await self._offer_around(room, dispatch, slot)
        finally:
            if slot.state == "placing":
                slot.state = "open"

    async def _offer_around(self, room: Room, dispatch: Dispatch, slot: Slot) -> None:
        asked: set[str] = set()
        while worker := self._choose(dispatch, slot.key, asked):
            asked.add(worker.id)
            job = _job(room, dispatch, slot.key)
            job.state.worker_id = worker.id
            answer = await worker.offer(job)
            if not self._still_wanted(room, dispatch, slot):
                return
            if answer is None:
                continue
            if answer.available:
                record = JobRecord(job, worker, slot, worker.api_key)
                if await self._assign(record, dispatch, answer):
                    return
            elif answer.terminate:
                slot.state = "done"
                logger.info("job for %r in room %s was refused for good", dispatch.info.agent_name, room.name)
                return
        if asked:
            slot.refusals += 1
            delay = min(2.0 ** (slot.refusals - 1), MAX_BACKOFF)
            slot.not_before = asyncio.get_running_loop().time() + delay
            logger.warning(
                "room %s: no agent worker named %r is available, asking again in %g s",
                room.name, dispatch.info.agent_name, delay,
            )  # fmt: skip
            self._spawn(self._retry(room, delay))

    async def _retry(self, room: Room, delay: float) -> None:
        await asyncio.sleep(delay)
        if room.sid in self._rooms:
            self._reconcile(room)

    def _still_wanted(self, room: Room, dispatch: Dispatch, slot: Slot) -> bool:
        return room.sid in self._rooms and not dispatch.deleted and dispatch.slots.get(slot.key) is slot

    def _choose(self, dispatch: Dispatch, key: SlotKey, asked: set[str]) -> Worker | None:
        """One of the free workers, those with less load more often."""
        job_type, namespace, _ = key
        free = [
            worker
            for worker in self._hub.matching(dispatch.info.agent_name, dispatch.info.deployment)
            if worker.available and worker.id not in asked
            if worker.job_type == job_type and worker.namespace == namespace
        ]
        if not free:
            return None
        # a worker that reports full load and is not full takes a job only when nobody else would
        return random.choices(free, [max(1e-6, 1.0 - worker.load) for worker in free])[0]

    async def _assign(self, record: JobRecord, dispatch: Dispatch, answer: agent.AvailabilityResponse) -> bool:
        """Hand the accepted job over. False when the worker is gone meanwhile."""
        worker, job, slot = record.worker, record.job, record.slot
        assert worker is not None
        job.state.participant_identity = answer.participant_identity or f"agent-{job.id}"
        slot.state = "filled"
        slot.refusals = 0
        self._jobs[job.id] = record
        dispatch.add_job(record)
        # recorded first: the worker's next message is about this job already
        if await worker.assign(job, self._token(worker, job, answer)):
            logger.info("job %s in room %s assigned to worker %s", job.id, job.room.name, worker.id)
            return True
        if not record.ended and slot.state == "filled":
            self._jobs.pop(job.id, None)
            dispatch.jobs.pop(job.id, None)
            slot.state = "placing"
        return slot.state != "placing"

    def _token(self, worker: Worker, job: agent.Job, answer: agent.AvailabilityResponse) -> str:
        allowed = worker.permissions
        known = [source for source in allowed.can_publish_sources if source in models.TrackSource.values() and source]
        sources = [source_name(source) for source in known]
        # A list of which this server knows nothing allows nothing; an empty one allows everything.
        nothing = bool(allowed.can_publish_sources) and not sources
        claims = Claims(
            issuer=worker.api_key,
            identity=job.state.participant_identity,
            name=answer.participant_name,
            metadata=answer.participant_metadata,
            attributes={**answer.participant_attributes, "lk.agent_name": job.agent_name},
            kind="agent",
            video=VideoGrants(
                room_join=True,
                room=job.room.name,
                agent=True,
                can_publish=allowed.can_publish and not nothing,
                can_subscribe=allowed.can_subscribe,
                can_publish_data=allowed.can_publish_data,
                can_publish_sources=sources or None,
                can_update_own_metadata=allowed.can_update_metadata,
                hidden=allowed.hidden,
                recorder=allowed.recorder,
                can_subscribe_metrics=allowed.can_subscribe_metrics or None,
                can_manage_agent_session=allowed.can_manage_agent_session or None,
            ),
        )
        return self._authenticator.sign(claims, TOKEN_TTL)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        if self._closed:
            coroutine.close()
            return
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("dispatch failed", exc_info=error)


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


def _job(room: Room, dispatch: Dispatch, key: SlotKey) -> agent.Job:
    job_type, namespace, participant_sid = key
    info = dispatch.info
    job = agent.Job(
        id=new_id("AJ"),
        dispatch_id=info.id,
        type=cast("agent.JobType", job_type),
        room=room.to_proto(),
        namespace=namespace,
        metadata=info.metadata,
        agent_name=info.agent_name,
        deployment=info.deployment,
        attributes=info.attributes,
        state=agent.JobState(status=agent.JobStatus.JS_PENDING, updated_at=now_ns()),
    )
    for participant in room.participants.values():
        if participant_sid and participant.sid == participant_sid:
            job.participant.CopyFrom(participant.to_proto())
    return job


def _participant(room: Room, record: JobRecord) -> Participant | None:
    """The job's own participant; None for another one with its identity."""
    participant = room.get_participant(record.identity)
    return participant if participant is not None and participant.sid == record.participant_sid else None


def _remove(room: Room, record: JobRecord) -> None:
    if record.participant_sid:
        room.remove_participant(record.identity, sid=record.participant_sid)


async def _terminate(worker: Worker, job_id: str) -> None:
    await worker.terminate(job_id)
