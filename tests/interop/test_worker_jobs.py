"""A worker's jobs against the real server: what runs where, and how each end is reported."""

from __future__ import annotations

import asyncio
import re
import signal
import textwrap
from pathlib import Path

import pytest
from livekit.protocol import agent
from livekit.protocol.agent_dispatch import CreateAgentDispatchRequest
from livekit.protocol.room import CreateRoomRequest, DeleteRoomRequest

from tests.conftest import until

HEAD = """
import asyncio, os, signal
from greenroom.agents import AutoSubscribe, JobContext, JobRequest, WorkerOptions, cli
"""


def app(folder: Path, body: str) -> Path:
    path = folder / "app.py"
    path.write_text(HEAD + textwrap.dedent(body))
    return path


async def job_states(api, room: str) -> list[agent.JobState]:
    return [job.state for dispatch in await api.agent_dispatch.list_dispatch(room) for job in dispatch.state.jobs]


async def ended(api, room: str) -> agent.JobState:
    async def look():
        states = await job_states(api, room)
        return [state for state in states if state.status in (agent.JS_SUCCESS, agent.JS_FAILED)]

    return (await until(look, f"the job in {room} ends"))[0]


async def test_an_unnamed_worker_gets_every_new_room_and_joins_it(tmp_path, room_server, api, start_worker):
    await start_worker(
        app(
            tmp_path,
            """
            async def entrypoint(ctx: JobContext):
                await ctx.connect()
                await ctx.agent.set_attributes({"warm": ctx.proc.userdata["model"], "pid": str(ctx.proc.pid)})

            def prewarm(proc):
                proc.userdata["model"] = f"loaded in {os.getpid()}"

            if __name__ == "__main__":
                cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint, prewarm_fnc=prewarm))
            """,
        )
    )
    await api.room.create_room(CreateRoomRequest(name="one"))

    def joined():
        people = room_server.manager.get_room("one").participants.values()
        return [person for person in people if person.to_proto().attributes.get("warm")]

    (person,) = await until(joined, "the agent joins and sets its attributes")
    attributes = person.to_proto().attributes
    assert attributes["warm"].startswith("loaded in ")
    assert attributes["pid"] not in attributes["warm"], "a job runs in a process of its own, forked after prewarm"
    await api.room.delete_room(DeleteRoomRequest(room="one"))
    await until(lambda: room_server.manager.get_room("one") is None, "the room closes")


async def test_an_exception_in_the_entrypoint_is_a_failure_with_its_text(tmp_path, api, start_worker):
    await start_worker(
        app(
            tmp_path,
            """
            async def entrypoint(ctx):
                await ctx.connect()
                raise ValueError("no such model: x")

            if __name__ == "__main__":
                cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))
            """,
        )
    )
    await api.room.create_room(CreateRoomRequest(name="raises"))
    state = await ended(api, "raises")
    assert (state.status, state.error) == (agent.JS_FAILED, "ValueError: no such model: x")


async def test_a_crashed_process_is_a_failure_that_names_the_signal(tmp_path, api, start_worker):
    await start_worker(
        app(
            tmp_path,
            """
            async def entrypoint(ctx):
                os.kill(os.getpid(), signal.SIGKILL)

            if __name__ == "__main__":
                cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))
            """,
        )
    )
    await api.room.create_room(CreateRoomRequest(name="crashes"))
    state = await ended(api, "crashes")
    assert state.status == agent.JS_FAILED
    assert "killed by SIGKILL" in state.error


async def test_shutdown_is_a_success_and_runs_the_callbacks(tmp_path, api, start_worker):
    worker = await start_worker(
        app(
            tmp_path,
            """
            async def entrypoint(ctx):
                await ctx.connect()
                async def later(reason):
                    print(f"callback: {reason}", flush=True)
                ctx.add_shutdown_callback(later)
                ctx.shutdown("enough")

            if __name__ == "__main__":
                cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))
            """,
        )
    )
    await api.room.create_room(CreateRoomRequest(name="short"))
    state = await ended(api, "short")
    assert (state.status, state.error) == (agent.JS_SUCCESS, "")
    await until(lambda: "callback: enough" in worker.text, "the callback runs")


async def test_a_named_worker_runs_by_explicit_dispatch_only_and_may_choose_its_identity(
    tmp_path, room_server, api, start_worker
):
    await start_worker(
        app(
            tmp_path,
            """
            async def request(req: JobRequest):
                await req.accept(identity="helper", name="Helper", metadata=req.job.metadata)

            async def entrypoint(ctx):
                await ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)

            if __name__ == "__main__":
                cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint, request_fnc=request, agent_name="helper-agent"))
            """,
        )
    )
    await api.room.create_room(CreateRoomRequest(name="quiet"))
    await api.agent_dispatch.create_dispatch(
        CreateAgentDispatchRequest(agent_name="helper-agent", room="wanted", metadata="hello")
    )
    person = await until(lambda: room_server.manager.get_room("wanted").get_participant("helper"), "the agent joins")
    assert (person.to_proto().name, person.to_proto().metadata) == ("Helper", "hello")
    assert not room_server.manager.get_room("quiet").participants


async def test_a_job_that_keeps_all_of_python_from_running_does_not_outlive_its_worker_for_long(
    tmp_path, api, start_worker
):
    worker = await start_worker(
        app(
            tmp_path,
            """
            import ctypes

            async def entrypoint(ctx):
                print(f"in process {os.getpid()}.", flush=True)
                ctypes.PyDLL(None).sleep(90)  # holds the interpreter's lock

            if __name__ == "__main__":
                cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint, shutdown_process_timeout=0))
            """,
        )
    )
    await api.room.create_room(CreateRoomRequest(name="held"))
    job = int((await until(lambda: re.search(r"in process (\d+)\.", worker.text), "the job is held up")).group(1))
    worker.process.kill()
    await until(lambda: not Path(f"/proc/{job}").exists(), "the job's process has ended", 30)


async def test_a_worker_says_what_it_waits_for_and_a_second_signal_does_not_wait(tmp_path, api, start_worker):
    worker = await start_worker(
        app(
            tmp_path,
            """
            import time

            async def entrypoint(ctx):
                print(f"in process {os.getpid()}.", flush=True)
                time.sleep(60)

            if __name__ == "__main__":
                cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))
            """,
        )
    )
    await api.room.create_room(CreateRoomRequest(name="held"))
    job = int((await until(lambda: re.search(r"in process (\d+)\.", worker.text), "the job is held up")).group(1))
    worker.process.terminate()
    await until(lambda: re.search(r"waiting for the job AJ_\w+ in room held to end", worker.text), "it says so", 8)
    worker.process.terminate()
    assert await asyncio.wait_for(worker.process.wait(), 8) == 128 + signal.SIGTERM
    await until(lambda: not Path(f"/proc/{job}").exists(), "the job's process has ended", 12)


async def test_a_worker_with_wrong_keys_says_so_and_exits_1(tmp_path, room_server, start_worker, monkeypatch):
    path = app(
        tmp_path,
        """
        async def entrypoint(ctx): ...

        if __name__ == "__main__":
            cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))
        """,
    )
    worker = await start_worker(path, "start", "--api-secret", "wrong", wait=False)
    assert await worker.process.wait() == 1
    await worker.stop()
    assert "Check LIVEKIT_API_KEY and LIVEKIT_API_SECRET" in worker.text
    assert "Traceback" not in worker.text


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("raise OSError('model file is gone')", "OSError: model file is gone"),
        ("raise SystemExit('model file is gone')", "SystemExit: model file is gone"),
    ],
)
async def test_a_failing_prewarm_ends_the_worker_with_its_text(tmp_path, start_worker, does, said):
    path = app(
        tmp_path,
        """
        async def entrypoint(ctx): ...

        def prewarm(proc):
            DOES

        if __name__ == "__main__":
            cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint, prewarm_fnc=prewarm))
        """.replace("DOES", does),
    )
    worker = await start_worker(path, "start", wait=False)
    assert await worker.process.wait() == 1
    await worker.stop()
    assert f"prewarm_fnc failed: {said}" in worker.text


async def test_sys_exit_in_request_fnc_refuses_the_job_and_the_worker_goes_on(tmp_path, api, start_worker):
    worker = await start_worker(
        app(
            tmp_path,
            """
            async def entrypoint(ctx): ...

            async def request(req):
                raise SystemExit("not today")

            if __name__ == "__main__":
                cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint, request_fnc=request))
            """,
        )
    )
    await api.room.create_room(CreateRoomRequest(name="refused"))
    await until(lambda: "SystemExit: not today" in worker.text, "it is said")
    assert "is refused" in worker.text and worker.process.returncode is None
    frames = [line for line in worker.text.splitlines() if line.startswith("  File")]
    assert len(frames) == 1 and "app.py" in frames[0], "the user's frames only"


async def test_a_file_with_only_an_agent_class_is_served(tmp_path, room_server, api, start_worker):
    path = tmp_path / "app.py"
    path.write_text(
        textwrap.dedent(
            """
            from greenroom.agents import Agent

            class Greeter(Agent):
                display_name = "The greeter"

                async def on_start(self):
                    await self.participant.set_attributes({"greeter": "here"})
            """
        )
    )
    await start_worker(path)
    await api.room.create_room(CreateRoomRequest(name="class"))

    def joined():
        people = room_server.manager.get_room("class").participants.values()
        return [person for person in people if person.to_proto().attributes.get("greeter") == "here"]

    (person,) = await until(joined, "the agent joins")
    assert person.to_proto().name == "The greeter"


async def test_results_survive_the_warm_image_and_the_worker_then_exits_1(tmp_path, room_server, api, start_worker):
    worker = await start_worker(
        app(
            tmp_path,
            """
            async def entrypoint(ctx):
                await ctx.connect()
                os.kill(os.getppid(), signal.SIGKILL)
                await asyncio.sleep(0.5)
                ctx.shutdown("done")

            if __name__ == "__main__":
                cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint, drain_timeout=60, load_threshold=9.0))
            """,
        ),
        "start",
        "--log-level",
        "debug",
    )
    await api.room.create_room(CreateRoomRequest(name="orphan"))
    state = await ended(api, "orphan")
    assert (state.status, state.error) == (agent.JS_SUCCESS, "")
    assert await asyncio.wait_for(worker.process.wait(), 20) == 1
    assert "start the worker again" in worker.text


async def test_a_prewarm_that_hangs_is_an_error_in_time_and_leaves_nothing(tmp_path, start_worker):
    worker = await start_worker(
        app(
            tmp_path,
            """
            import time

            async def entrypoint(ctx):
                await ctx.connect()

            def prewarm(proc):
                print(f"image {os.getpid()}", flush=True)
                time.sleep(3600)

            if __name__ == "__main__":
                cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint, prewarm_fnc=prewarm, initialize_process_timeout=2))
            """,
        ),
        wait=False,
    )
    assert await asyncio.wait_for(worker.process.wait(), 30) == 1
    assert "prewarm_fnc took longer than 2 s" in worker.text
    image = int(worker.text.split("image ")[1].split()[0])
    await until(lambda: not Path(f"/proc/{image}").exists(), "the image has ended")


async def test_a_job_that_leaves_works_on_and_one_that_is_cancelled_from_within_runs_its_callbacks(
    tmp_path, room_server, api, start_worker
):
    worker = await start_worker(
        app(
            tmp_path,
            """
            async def entrypoint(ctx):
                async def after():
                    print(f"after {ctx.job.room.name}", flush=True)
                ctx.add_shutdown_callback(after)
                await ctx.connect()
                if ctx.job.room.name == "leaves":
                    await ctx.room.disconnect()
                    await asyncio.sleep(2)  # longer than the server's patience was
                    print("worked on", flush=True)
                elif ctx.job.room.name == "exits":
                    raise SystemExit
                else:
                    task = asyncio.create_task(asyncio.sleep(10))
                    task.cancel()
                    await task

            if __name__ == "__main__":
                cli.run_app(WorkerOptions(entrypoint_fnc=entrypoint))
            """,
        )
    )
    for name, status, error in (
        ("leaves", agent.JS_SUCCESS, ""),
        ("exits", agent.JS_SUCCESS, ""),
        ("cancelled", agent.JS_FAILED, "CancelledError"),
    ):
        await api.room.create_room(CreateRoomRequest(name=name))
        state = await ended(api, name)
        assert state.status == status and error in state.error
        await until(lambda name=name: f"after {name}" in worker.text, "the callback runs")
    assert "worked on" in worker.text
