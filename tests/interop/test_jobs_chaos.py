"""Many jobs, each with an end drawn by a seed, some killed: every state that the server shows is what happened.

`GREENROOM_CHAOS_JOBS=500` makes it the long run; `GREENROOM_CHAOS_SEED` another one.
"""

from __future__ import annotations

import asyncio
import os
import random

from livekit.protocol import agent
from livekit.protocol.agent_dispatch import CreateAgentDispatchRequest

from tests.conftest import until

JOBS = int(os.environ.get("GREENROOM_CHAOS_JOBS", "16"))
SEED = int(os.environ.get("GREENROOM_CHAOS_SEED", "7"))
AT_A_TIME = 4

APP = """
import asyncio, os, signal
from greenroom.agents import WorkerOptions, cli

async def entrypoint(ctx):
    how = ctx.job.metadata
    if how == "returns":
        return
    await ctx.connect()
    if how == "shutdown":
        ctx.shutdown("done")
    elif how == "leaves":
        await ctx.room.disconnect()
    elif how == "raises":
        raise ValueError("as drawn")
    elif how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "aborts":
        os.abort()
    elif how == "exits":
        os._exit(7)

if __name__ == "__main__":
    cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint, agent_name="chaos", num_idle_processes=1, load_threshold=9.0))
"""

ENDS = {
    "returns": (agent.JS_SUCCESS, ""),
    "shutdown": (agent.JS_SUCCESS, ""),
    "leaves": (agent.JS_SUCCESS, ""),
    "raises": (agent.JS_FAILED, "ValueError: as drawn"),
    "killed": (agent.JS_FAILED, "the job process was killed by SIGKILL"),
    "aborts": (agent.JS_FAILED, "the job process was killed by SIGABRT"),
    "exits": (agent.JS_FAILED, "the job process exited with code 7 without a result"),
}


async def test_every_reported_state_is_what_happened(tmp_path, room_server, start_worker):
    path = tmp_path / "app.py"
    path.write_text(APP)
    await start_worker(path, "start")
    draw = random.Random(SEED)
    turns = asyncio.Semaphore(AT_A_TIME)
    wrong: list[str] = []

    def jobs(room: str) -> list[agent.Job]:
        return [job for dispatch in room_server.dispatcher.listed(room) for job in dispatch.state.jobs]

    async def one(number: int, how: str, cut: bool) -> None:
        room = f"chaos-{number}"
        async with turns:
            request = CreateAgentDispatchRequest(agent_name="chaos", room=room, metadata=how)
            await room_server.dispatcher.create(request)
            if cut:  # the worker's socket breaks while jobs are at every stage
                await until(lambda: jobs(room), "the job is assigned", 30)
                for worker in list(room_server.workers.by_id.values()):
                    await worker.close(1001, "chaos")

            def ended() -> bool:
                states = [job.state.status for job in jobs(room)]
                return bool(states) and all(state in (agent.JS_SUCCESS, agent.JS_FAILED) for state in states)

            await until(ended, f"the job that {how} ends", 60)
            got = [(job.state.status, job.state.error) for job in jobs(room)]
            if got != [ENDS[how]]:
                wrong.append(f"{room} {how}{' with a broken socket' if cut else ''}: {got}")

    runs = [one(number, draw.choice(sorted(ENDS)), draw.random() < 0.1) for number in range(JOBS)]
    await asyncio.gather(*runs)
    assert not wrong, f"seed {SEED}: " + "; ".join(wrong)
