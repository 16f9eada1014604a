"""From a place that is to be filled to a worker that has the job."""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
from collections.abc import Callable
from typing import cast

from livekit.protocol import agent, models

from greenroom.api.grants import Claims, VideoGrants

from .auth import Authenticator
from .ids import new_id
from .job_book import JobBook
from .jobs import Dispatch, JobRecord, Slot, SlotKey, now_ns
from .permissions import source_name
from .room import Room
from .workers import Worker, Workers

__all__ = ["Placer"]

logger = logging.getLogger("greenroom.server.agents")

TOKEN_TTL = datetime.timedelta(hours=1)
MAX_BACKOFF = 30.0


class Placer:
    """Offers jobs to one free worker after the other."""

    def __init__(
        self,
        workers: Workers,
        authenticator: Authenticator,
        book: JobBook,
        is_wanted: Callable[[Room, Dispatch, Slot], bool],
    ) -> None:
        """`is_wanted`: asked again after each answer, for which a worker may take 10 s."""
        self._workers = workers
        self._authenticator = authenticator
        self._book = book
        self._is_wanted = is_wanted

    async def place(self, room: Room, dispatch: Dispatch, slot: Slot) -> float:
        """Offer the job around. Returns after how many seconds to try again; 0 when that is not called for."""
        asked: set[str] = set()
        while worker := self._choose(dispatch, slot.key, asked):
            asked.add(worker.id)
            job = _job(room, dispatch, slot.key)
            job.state.worker_id = worker.id
            answer = await worker.offer(job)
            if not self._is_wanted(room, dispatch, slot):
                return 0.0
            if answer is None:
                continue
            if answer.available:
                record = JobRecord(job, worker, slot, worker.api_key)
                if await self._assign(record, worker, dispatch, answer):
                    return 0.0
            elif answer.terminate:
                slot.state = "done"
                logger.info("job for %r in room %s was refused for good", dispatch.info.agent_name, room.name)
                return 0.0
        if not asked:
            return 0.0  # a worker that comes will be told
        slot.refusals += 1
        delay = min(2.0 ** (slot.refusals - 1), MAX_BACKOFF)
        slot.not_before = asyncio.get_running_loop().time() + delay
        logger.warning(
            "room %s: no agent worker named %r is available, asking again in %g s",
            room.name, dispatch.info.agent_name, delay,
        )  # fmt: skip
        return delay

    def _choose(self, dispatch: Dispatch, key: SlotKey, asked: set[str]) -> Worker | None:
        """One of the free workers, those with less load more often."""
        job_type, namespace, _ = key
        free = [
            worker
            for worker in self._workers.matching(dispatch.info.agent_name, dispatch.info.deployment)
            if worker.available and worker.id not in asked
            if worker.job_type == job_type and worker.namespace == namespace
        ]
        if not free:
            return None
        # a worker that reports full load and is not full takes a job only when nobody else would
        return random.choices(free, [max(1e-6, 1.0 - worker.load) for worker in free])[0]

    async def _assign(
        self, record: JobRecord, worker: Worker, dispatch: Dispatch, answer: agent.AvailabilityResponse
    ) -> bool:
        """Hand the accepted job over. False when the worker is gone meanwhile."""
        job, slot = record.job, record.slot
        job.state.participant_identity = answer.participant_identity or f"agent-{job.id}"
        slot.state = "filled"
        slot.refusals = 0
        self._book.add(record)
        dispatch.add_job(record)
        # recorded first: the worker's next message is about this job already
        if await worker.assign(job, self._token(worker, job, answer)):
            logger.info("job %s in room %s assigned to worker %s", job.id, job.room.name, worker.id)
            return True
        if not record.ended and slot.state == "filled":
            self._book.discard(record)
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
