"""A synthetic call whose agent fails: the agent's own error is said, once, whether it came or not."""

from __future__ import annotations

import asyncio
import io
import json
from unittest.mock import ANY

import pytest
from rich.console import Console

from greenroom.agents.caller import AgentFailure, CallOptions, ExitCode
from greenroom.agents.caller.jobs import job_failure
from greenroom.api import CreateRoomRequest
from greenroom.cli.call import call_and_print
from greenroom.server.config import DEV_KEY, DEV_SECRET
from tests.unit.speech_fakes import FakeTTS

FAILS = {
    "before it joins": "def __init__(self):\n        raise ValueError('no model')",
    "in the room": "async def on_start(self):\n        raise ValueError('no model')",
    "killed": "async def on_start(self):\n        import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
}

RAISES = {
    "a hook": (
        "def on_audio_track(self, track, participant):\n        raise ValueError('no model')",
        "Failing.on_audio_track: ValueError: no model",
    ),
    "an async hook": (
        "async def on_audio_track(self, track, participant):\n        raise ValueError('no model')",
        "Failing.on_audio_track: ValueError: no model",
    ),
    "a task": (
        "def on_participant(self, participant):\n        self.ctx.spawn(self.work(), 'my work')\n"
        "    async def work(self):\n        raise ValueError('no model')",
        "my work: ValueError: no model",
    ),
    "a handler": (
        "def on_start(self):\n        self.room.on('track_subscribed', self.work)\n"
        "    def on_audio_track(self, track, participant):\n        pass\n"
        "    def work(self, *_):\n        raise ValueError('no model')",
        "a handler of 'track_subscribed': ValueError: no model",
    ),
    "a transcriber's callback": (
        "def on_audio_track(self, track, participant):\n"
        "        from greenroom.agents.transcriber import EventType, Transcriber, TranscriptionEvent\n"
        "        def work(event): raise ValueError('no model')\n"
        "        Transcriber(track, work)._emit(TranscriptionEvent(EventType.PARTIAL, 'x', 0, 'SG_1'))",
        "the transcriber's callback: ValueError: no model",
    ),
    "sys.exit in a hook": (
        "def on_audio_track(self, track, participant):\n        import sys; sys.exit('no model')",
        "RuntimeError: Failing.on_audio_track called sys.exit('no model')",
    ),
    "sys.exit in an async hook": (
        "async def on_audio_track(self, track, participant):\n        import sys; sys.exit('no model')",
        "RuntimeError: Failing.on_audio_track called sys.exit('no model')",
    ),
    "sys.exit in a handler": (
        "def on_start(self):\n        self.room.on('track_subscribed', self.work)\n"
        "    def on_audio_track(self, track, participant):\n        pass\n"
        "    def work(self, *_):\n        import sys; sys.exit('no model')",
        "RuntimeError: a handler of 'track_subscribed' called sys.exit('no model')",
    ),
}


@pytest.fixture(autouse=True)
def voice(monkeypatch):
    monkeypatch.setattr("greenroom.cli.call._providers", lambda *_: (FakeTTS(0.1), None))


def agent(tmp_path, body: str):
    app = tmp_path / "app.py"
    app.write_text(f"from greenroom.agents import Agent\nclass Failing(Agent):\n    {body}\n")
    return app


async def call(server, capsys) -> tuple[int, list[dict]]:
    calling = call_and_print(
        Console(file=io.StringIO()),
        url=server.url,
        api_key=DEV_KEY,
        api_secret=DEV_SECRET,
        say=["hello"],
        json_lines=True,
        options=CallOptions(agent_timeout=20, answer_timeout=1),
    )
    code = await asyncio.wait_for(calling, 40)
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("body", FAILS.values(), ids=FAILS)
async def test_its_error_is_said_once(room_server, start_worker, tmp_path, capsys, body):
    await start_worker(agent(tmp_path, body))
    code, events = await call(room_server, capsys)
    assert code == ExitCode.AGENT_FAILED == 1
    [error] = [event["text"] for event in events if event["event"] == "error"]
    assert error in (
        "the agent failed: ValueError: no model",
        "the agent failed: the job process was killed by SIGKILL",
    )
    assert events[-1]["exit_code"] == 1 and events[-1]["result"] == "agent_failed"


@pytest.mark.parametrize(("body", "words"), RAISES.values(), ids=RAISES)
async def test_what_raises_in_it_ends_the_call_and_the_log_has_the_users_frames(
    room_server, start_worker, tmp_path, capsys, body, words
):
    worker = await start_worker(agent(tmp_path, body))
    code, events = await call(room_server, capsys)
    assert code == ExitCode.AGENT_FAILED
    [error] = [event["text"] for event in events if event["event"] == "error"]
    assert error == f"the agent failed: {words}"
    assert not [event for event in events if event["event"] == "say"], "it has no voice, and is not spoken to"
    frames = [line for line in worker.text.splitlines() if line.startswith("  File")]
    assert len(frames) == 1 and "app.py" in frames[0], worker.text


LEAVES = {
    "shutdown": "async def on_start(self):\n        self.ctx.shutdown('enough')",
    "sys.exit": "async def on_start(self):\n        import sys; sys.exit()",
}


@pytest.mark.parametrize("body", LEAVES.values(), ids=LEAVES)
async def test_an_agent_that_only_leaves_has_not_answered(room_server, start_worker, tmp_path, capsys, body):
    await start_worker(agent(tmp_path, body))
    code, events = await call(room_server, capsys)
    assert code == ExitCode.NOT_ANSWERED == 3
    [error] = [event["text"] for event in events if event["event"] == "error"]
    assert error.startswith("the agent agent-") and error.endswith(" left the call before it answered")
    assert events[-1]["result"] == "not_answered"


async def test_a_failure_of_an_earlier_call_is_not_this_ones(room_server, api, start_worker, tmp_path):
    await start_worker(agent(tmp_path, "async def on_start(self):\n        raise ValueError('no model')"))
    await api.room.create_room(CreateRoomRequest(name="den"))
    where = (room_server.url, DEV_KEY, DEV_SECRET, "den")
    assert await asyncio.wait_for(job_failure(*where, new_room=True), 20) == AgentFailure("ValueError: no model", ANY)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(job_failure(*where, new_room=False), 1.5)
