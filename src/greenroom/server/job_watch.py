"""How jobs end: what their workers say of it, and what is done when a worker or its agent is gone without a word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from livekit.protocol import agent

from greenroom.tasks import Tasks

from .job_book import JobBook
from .jobs import ENDED, JobRecord, JobTimes
from .manager import RoomManager
from .participant import Participant
from .room import Room
from .workers import Worker

__all__ = ["JobWatch"]


class JobWatch:
    """Follows every job from its assignment on."""

    def __init__(
        self,
        manager: RoomManager,
        book: JobBook,
        tasks: Tasks,
        times: JobTimes,
        lost: Callable[[Room, JobRecord], None],
    ) -> None:
        """`lost(room, record)`: called when an open room's job was booked as lost with its worker."""
        self._manager = manager
        self._book = book
        self._tasks = tasks
        self._times = times
        self._lost = lost

    def is_open(self, room: Room) -> bool:
        """The room is still there, and not only one of its name."""
        return self._manager.get_room(room.name) is room

    def terminate(self, worker: Worker, job_id: str) -> None:
        self._tasks.start(worker.terminate(job_id), f"ending job {job_id}")

    # --- agents in rooms -----------------------------------------------------------------------------------------

    def agent_joined(self, room: Room, identity: str, sid: str) -> None:
        """A job that was not there yet comes first; else an agent joined anew after its connection was lost."""
        records = [record for record in self._book.of_room(room.sid) if record.identity == identity]
        waiting = [record for record in records if not record.joined]
        if records:
            record = (waiting or records)[-1]
            record.participant_sid, record.left = sid, False

    def agent_left(self, room: Room, sid: str) -> None:
        for record in self._book.of_room(room.sid):
            if record.participant_sid == sid:
                record.left = True
                self._settle_later(room, record)

    def _settle_later(self, room: Room, record: JobRecord) -> None:
        self._tasks.start(self._settle_left(room, record), f"watching job {record.job.id} without its agent")

    async def _settle_left(self, room: Room, record: JobRecord) -> None:
        """An agent left, or was sent away. How its job ends is the worker's to say, as long as there is one."""
        sid = record.participant_sid
        if record.worker is None:
            return  # `_watch_orphan` looks at it
        await asyncio.sleep(self._times.afterwork)
        if not self._is_over(room, record, sid) and record.worker:
            await record.worker.terminate(record.job.id)
            await asyncio.sleep(self._times.last_word)
            if not self._is_over(room, record, sid) and record.worker:
                text = "the agent left the room, and its worker did not end it"
                self._book.end(record, agent.JobStatus.JS_FAILED, text)

    def _is_over(self, room: Room, record: JobRecord, sid: str) -> bool:
        return record.ended or record.participant_sid != sid or not self.is_open(room)

    def remove_later(self, room: Room, record: JobRecord) -> None:
        """Its dispatch was deleted: the agent has a while to leave by itself."""
        self._tasks.start(self._remove_after(self._times.remove, room, record), f"removing job {record.job.id}")

    async def _remove_after(self, seconds: float, room: Room, record: JobRecord) -> None:
        await asyncio.sleep(seconds)
        _remove(room, record)

    # --- workers -------------------------------------------------------------------------------------------------

    def worker_gone(self, worker: Worker) -> None:
        for record in self._book.of_worker(worker):
            record.worker = None
            room = self._room_of(record)
            waiting = self._lost_in_closed_room(record) if room is None else self._watch_orphan(room, record)
            self._tasks.start(waiting, f"watching job {record.job.id} without its worker")

    def _room_of(self, record: JobRecord) -> Room | None:
        """None when it is closed, whatever has its name now."""
        room = self._manager.get_room(record.job.room.name)
        return room if room is not None and room.sid == record.job.room.sid else None

    async def _lost_in_closed_room(self, record: JobRecord) -> None:
        await asyncio.sleep(self._times.back)
        if not record.ended and record.worker is None:
            self._book.lose(record)

    async def _watch_orphan(self, room: Room, record: JobRecord) -> None:
        """A job whose worker is gone: the worker may come back and claim it, and its agent may live on without one.

        An agent lives as long as its own connection, which takes 15 s to be given up. A process that died took its
        signalling with it, and that is seen at once.
        """
        times = self._times
        gone = asyncio.get_running_loop().time()
        away = 0
        while True:
            await asyncio.sleep(min(times.orphan, times.back))
            if record.ended or record.worker or not self.is_open(room):
                return
            participant = _participant(room, record)
            if participant is None:
                if asyncio.get_running_loop().time() - gone >= times.back:
                    break
            elif participant.connected_signal:
                away = 0
            elif (away := away + 1) >= 2:
                break
        _remove(room, record)
        self._book.lose(record)
        self._lost(room, record)

    def job_updated(self, worker: Worker, update: agent.UpdateJobStatus) -> None:
        record = self._book.get(update.job_id)
        if record is None:
            self._book.correct(worker, update)
            return
        if record.worker is not worker:
            return
        if update.status not in ENDED:
            self._book.update(record, update.status, update.error)
            return
        self._book.end(record, update.status, update.error)
        if (room := self._room_of(record)) is not None:
            # The process is over; a participant that it left behind would be seen until its connection times out.
            cleaning = self._remove_after(self._times.settle, room, record)
            self._tasks.start(cleaning, f"cleaning up after job {record.job.id}")

    async def jobs_kept(self, worker: Worker, job_ids: Sequence[str]) -> set[str]:
        """A worker that lost its connection still has these jobs. Its former socket may not be known to be dead yet."""
        kept = set()
        for job_id in job_ids:
            record = self._book.find(job_id)
            if record is None or (record.job.agent_name, record.api_key) != (worker.agent_name, worker.api_key):
                continue
            record.worker = worker
            record.job.state.worker_id = worker.id
            if record.ended:
                continue  # it came too late: the job is another's
            kept.add(job_id)
            if record.left and (room := self._room_of(record)) is not None:
                self._settle_later(room, record)
        return kept


def _participant(room: Room, record: JobRecord) -> Participant | None:
    """The job's own participant; None for another one with its identity."""
    participant = room.get_participant(record.identity)
    return participant if participant is not None and participant.sid == record.participant_sid else None


def _remove(room: Room, record: JobRecord) -> None:
    if record.participant_sid:
        room.remove_participant(record.identity, sid=record.participant_sid)
