"""Hooks of a job: each once for each person and track, none before `on_start` is done, and what happens when one raises."""

from __future__ import annotations

import asyncio
import logging
import sys
from types import SimpleNamespace

import pytest
from livekit.protocol import agent, models

from greenroom import rtc
from greenroom.agents import Agent
from greenroom.agents.job import JobAcceptArguments, JobContext, JobProcess, RunningJob
from greenroom.agents.tracebacks import users_traceback
from greenroom.rtc.event_emitter import EventEmitter


def person(identity: str, sid: str = "", *publications):
    tracks = {f"TR_{n}": publication for n, publication in enumerate(publications)}
    return SimpleNamespace(
        identity=identity, sid=sid or f"PA_{identity}", kind=models.ParticipantInfo.STANDARD, track_publications=tracks
    )


def audio():
    wanted = []
    return SimpleNamespace(kind=rtc.TrackKind.KIND_AUDIO, wanted=wanted, set_subscribed=wanted.append)


class FakeRoom(EventEmitter):
    """A room whose people the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.remote_participants = {}
        self.local_participant = None
        self.during_connect = lambda: None

    async def connect(self, *_):
        self.during_connect()
        await asyncio.sleep(0)

    async def disconnect(self) -> None:
        self.remote_participants.clear()

    def join(self, somebody) -> None:
        self.remote_participants[somebody.identity] = somebody
        self.emit("participant_connected", somebody)
        for publication in somebody.track_publications.values():
            self.emit("track_published", publication, somebody)

    def leave(self, identity: str) -> None:
        self.emit("participant_disconnected", self.remote_participants.pop(identity))


@pytest.fixture
async def stage():
    room = FakeRoom()
    running = RunningJob(agent.Job(id="AJ_x"), "ws://x", "token", "AW_x", JobAcceptArguments(identity="agent"))
    told: list[str] = []
    ctx = JobContext(running, JobProcess(), room, told.append)
    yield SimpleNamespace(room=room, ctx=ctx, told=told)
    await ctx.close("over", 1.0)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Recorder(Agent):
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.go = asyncio.Event()

    async def on_start(self):
        self.seen.append("starting")
        await self.go.wait()
        self.seen.append("started")

    def on_participant(self, participant):
        self.seen.append(participant.identity)

    def on_audio_track(self, track, participant):
        self.seen.append(f"{participant.identity}'s track")


async def test_who_comes_during_connect_and_on_start_is_told_once_and_after_it(stage):
    recorder, publication = Recorder(), audio()
    stage.room.during_connect = lambda: stage.room.join(person("early"))
    starting = asyncio.create_task(recorder.start(stage.ctx))
    await settled()
    late = person("late", "", publication)
    stage.room.join(late)
    stage.room.emit("track_subscribed", SimpleNamespace(kind=rtc.TrackKind.KIND_AUDIO), publication, late)
    stage.room.join(person("brief"))
    stage.room.leave("brief")
    await settled()
    assert recorder.seen == ["starting"] and publication.wanted == []
    recorder.go.set()
    await starting
    assert recorder.seen == ["starting", "started", "early", "late", "late's track"]
    assert publication.wanted == [True]


async def test_the_same_session_announced_again_is_not_told_again_and_a_new_one_is(stage):
    recorder = Recorder()
    recorder.go.set()
    await recorder.start(stage.ctx)
    ann = person("ann")
    stage.room.join(ann)
    stage.room.join(ann)
    stage.room.leave("ann")
    stage.room.join(person("ann", "PA_second"))
    assert recorder.seen == ["starting", "started", "ann", "ann"]


async def test_participant_entrypoints_run_once_for_each_whenever_they_are_added(stage):
    ran: list[tuple[str, str]] = []

    def entrypoint(name):
        async def run(_ctx, participant):
            ran.append((name, participant.identity))

        return run

    stage.ctx.add_participant_entrypoint(entrypoint("first"))
    stage.room.remote_participants["there"] = person("there")
    stage.room.during_connect = lambda: stage.room.join(person("early"))
    await stage.ctx.connect()
    stage.ctx.add_participant_entrypoint(entrypoint("second"))
    stage.room.join(person("late"))
    await settled()
    assert sorted(ran) == [(n, who) for n in ("first", "second") for who in ("early", "late", "there")]


class Broken(Agent):
    def on_participant(self, participant):
        raise ValueError("no such person")

    async def on_audio_track(self, track, participant):
        raise ValueError("no such track")

    def should_process(self, publication, participant):
        raise ValueError("no opinion")

    def on_stop(self):
        raise ValueError("never stops")


async def test_a_hook_that_raises_is_named_once_and_the_call_goes_on(stage, caplog):
    caplog.set_level(logging.ERROR, "greenroom.agents")
    publication = audio()
    stage.room.remote_participants["ann"] = person("ann", "", publication)
    await Broken().start(stage.ctx)
    stage.room.emit(
        "track_subscribed", SimpleNamespace(kind=rtc.TrackKind.KIND_AUDIO), publication, person("ann", "", publication)
    )
    await settled()
    await stage.ctx.close("over", 1.0)
    for hook in ("on_participant", "on_audio_track", "should_process", "on_stop"):
        assert sum(f"Broken.{hook} failed" in record.getMessage() for record in caplog.records) == 1, hook
    assert all("agents/agent.py" not in record.getMessage() for record in caplog.records), "the user's frames only"


async def test_the_first_that_raised_is_told_to_the_server(stage):
    await Broken().start(stage.ctx)
    for name in ("ann", "bob"):
        stage.room.join(person(name))
    assert stage.told == ["Broken.on_participant: ValueError: no such person"]
    assert stage.ctx.failure is None, "the call goes on"


@pytest.mark.parametrize(
    ("code", "reason", "failure"),
    [
        (None, "Exits.on_participant called sys.exit()", "None"),
        (0, "Exits.on_participant called sys.exit()", "None"),
        (3, "RuntimeError: Exits.on_participant called sys.exit(3)", "Exits.on_participant called sys.exit(3)"),
        (
            "no",
            "RuntimeError: Exits.on_participant called sys.exit('no')",
            "Exits.on_participant called sys.exit('no')",
        ),
    ],
)
async def test_sys_exit_in_a_hook_ends_the_job(stage, code, reason, failure):
    class Exits(Agent):
        def on_participant(self, participant):
            sys.exit(code)

    await Exits().start(stage.ctx)
    stage.room.join(person("ann"))
    assert await asyncio.wait_for(stage.ctx.ended(), 5) == reason
    assert str(stage.ctx.failure) == failure
    assert stage.told == []
    if stage.ctx.failure is not None:
        frames = [line for line in users_traceback(stage.ctx.failure).splitlines() if line.startswith("  File")]
        assert len(frames) == 1 and "in on_participant" in frames[0], "the user's frames only"


async def test_on_start_that_raises_fails_the_job(stage):
    class Unready(Agent):
        def on_start(self):
            raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        await Unready().start(stage.ctx)


async def test_callbacks_share_one_time_and_each_failure_is_its_own(stage, caplog):
    done = []

    async def cancelled():
        raise asyncio.CancelledError

    def exits():
        raise SystemExit(3)

    async def slow():
        await asyncio.sleep(60)

    for callback in (cancelled, exits, lambda: done.append("plain"), slow, lambda reason: done.append(reason)):
        stage.ctx.add_shutdown_callback(callback)
    await asyncio.wait_for(stage.ctx.close("over", 0.1), 10)
    assert done == ["plain", "over"]
    for name in ("cancelled", "exits", "slow"):
        assert sum(f"<locals>.{name} " in record.getMessage() for record in caplog.records) == 1, name


async def test_what_a_callback_leaves_running_ends_with_the_job(stage):
    ended = asyncio.Event()

    async def linger():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def say_goodbye():
        stage.ctx.spawn(linger(), "linger")
        await asyncio.sleep(0)

    stage.ctx.add_shutdown_callback(say_goodbye)
    await asyncio.wait_for(stage.ctx.close("over", 1.0), 10)
    assert ended.is_set()
