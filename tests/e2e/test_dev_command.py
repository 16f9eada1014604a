"""`greenroom dev` and `greenroom doctor` as a person runs them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from livekit.protocol.room import CreateRoomRequest, ListParticipantsRequest

from greenroom.api import LiveKitAPI
from greenroom.extras import install_command
from greenroom.server.config import DEV_KEY, DEV_SECRET
from tests.conftest import ROOT, WorkerProcess, until

APP = """
from greenroom.agents import Agent

class Versioned(Agent):
    async def on_start(self):
        await self.participant.set_attributes({"version": "%s"})
"""


@asynccontextmanager
async def dev(app: Path, *arguments: str, **environment: str) -> AsyncIterator[WorkerProcess]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "greenroom", "dev", str(app), "--port", "0", *arguments),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    running = WorkerProcess(process)
    try:
        yield running
    finally:
        await running.stop()


async def address(running: WorkerProcess) -> str:
    found = await until(lambda: re.search(r"Playground\s+(http://\S+)", running.text), "the address is printed", 30)
    return found.group(1)


async def test_a_changed_file_is_loaded_again_and_takes_over_the_open_room(tmp_path):
    app = tmp_path / "app.py"
    app.write_text(APP % "one")
    async with dev(app) as running:
        async with LiveKitAPI(await address(running), DEV_KEY, DEV_SECRET) as api:
            await api.room.create_room(CreateRoomRequest(name="open"))

            async def version() -> str:
                people = (await api.room.list_participants(ListParticipantsRequest(room="open"))).participants
                return ",".join(person.attributes.get("version", "") for person in people)

            await until(lambda: _equals(version, "one"), "the agent joins")
            app.write_text(APP % "two")
            await until(lambda: _equals(version, "two"), "the changed agent takes its place", 40)
        running.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(running.process.wait(), 30) == 0
    assert "Traceback" not in running.text


async def _equals(get, wanted: str) -> bool:
    return await get() == wanted


async def test_a_broken_file_is_shown_and_loaded_when_it_is_mended(tmp_path):
    app = tmp_path / "app.py"
    app.write_text("import no_such_module\n")
    async with dev(app) as running:
        await until(lambda: "before it was ready" in running.text, "the failure is shown", 30)
        assert "No module named 'no_such_module'" in running.text
        url = await address(running)
        app.write_text(APP % "mended")
        await until(lambda: "ready" in running.output, "it is loaded again", 40)
        async with LiveKitAPI(url, DEV_KEY, DEV_SECRET) as api:
            await api.room.create_room(CreateRoomRequest(name="open"))

            async def joined() -> bool:
                people = (await api.room.list_participants(ListParticipantsRequest(room="open"))).participants
                return any(person.attributes.get("version") == "mended" for person in people)

            await until(joined, "the mended agent joins")


async def test_a_file_without_an_agent_is_one_sentence_and_exit_1(tmp_path):
    app = tmp_path / "app.py"
    app.write_text("x = 1\n")
    async with dev(app, "--no-reload") as running:
        assert await asyncio.wait_for(running.process.wait(), 30) == 1
    assert "defines no Agent class and does not call cli.run_app" in running.text
    assert "Traceback" not in running.text


async def doctor() -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "greenroom", "doctor"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, output.decode()


async def test_doctor_names_what_is_there():
    code, output = await doctor()
    assert code == 0, output
    for row in ("Python", "native module", "playground", "recognition", "voice", "browser"):
        assert row in output


async def test_what_doctor_advises_can_be_copied(monkeypatch):
    # What the checkout is made of is on no index, so `greenroom[...]` could not be installed.
    monkeypatch.setenv("COLUMNS", "60")
    _, output = await doctor()
    assert "greenroom[" not in output
    if "-- small recognition" in output:
        assert f"{install_command('speech')}\n" in output


async def test_without_a_synthesiser_the_assistant_says_what_to_install_once(tmp_path):
    async with dev(ROOT / "examples" / "04_kitt.py", "--no-reload", PATH=str(tmp_path)) as running:
        assert await asyncio.wait_for(running.process.wait(), 40) == 1
    assert running.text.count("apt-get install flite") == 1
    assert "Traceback" not in running.text and "MissingProvider" not in running.text, running.text


async def test_what_a_call_needs_and_is_missing_is_one_sentence_of_the_job(tmp_path):
    app = tmp_path / "app.py"
    app.write_text(
        "from greenroom.agents import Agent\nfrom greenroom.agents.conversation import Conversation\n"
        "from greenroom.agents.speech import MissingProvider\n"
        "class A(Agent):\n    def on_start(self):\n        raise MissingProvider('the voice', 'buy one')\n"
    )
    async with dev(app, "--say", "hello", "--once") as running:
        assert await asyncio.wait_for(running.process.wait(), 40) == 1
    assert running.output[-1].strip() == "error  the agent failed: the voice is not available: buy one"
    assert "Traceback" not in running.text


async def test_the_banner_comes_first(tmp_path):
    app = tmp_path / "app.py"
    app.write_text(APP % "one")
    async with dev(app) as running:
        async with LiveKitAPI(await address(running), DEV_KEY, DEV_SECRET) as api:
            await api.room.create_room(CreateRoomRequest(name="open"))
            await until(lambda: "in room open runs in process" in running.text, "the job's line", 20)
    assert running.output[0].split()[0] == "Playground", running.text
    assert "registered as" not in running.text, "the banner says that the agent is ready"


def descendants(pid: int) -> list[int]:
    """Processes that descend from `pid`, zombies not counted."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, look = [], [pid]
    while look:
        mine = children.get(look.pop(), [])
        found += mine
        look += mine
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL], ids=lambda number: number.name)
async def test_nothing_outlives_dev_however_it_ends(tmp_path, number):
    app = tmp_path / "app.py"
    app.write_text(APP % "one")
    async with dev(app) as running:
        async with LiveKitAPI(await address(running), DEV_KEY, DEV_SECRET) as api:
            await api.room.create_room(CreateRoomRequest(name="open"))

            async def joined() -> bool:
                people = (await api.room.list_participants(ListParticipantsRequest(room="open"))).participants
                return bool(people)

            await until(joined, "the agent joins")
        started = descendants(running.process.pid)
        assert len(started) >= 3, "worker, image and job"
        running.process.send_signal(number)
        await asyncio.wait_for(running.process.wait(), 40)
        await until(lambda: not [pid for pid in started if alive(pid)], "worker, image and jobs have ended", 40)


BLOCKED = """
import time
from greenroom.agents import Agent

class Blocked(Agent):
    def on_start(self):
        print("blocked", flush=True)
        time.sleep(60)
"""


@asynccontextmanager
async def dev_with_a_blocked_job(tmp_path) -> AsyncIterator[WorkerProcess]:
    app = tmp_path / "app.py"
    app.write_text(BLOCKED)
    async with dev(app) as running:
        async with LiveKitAPI(await address(running), DEV_KEY, DEV_SECRET) as api:
            await api.room.create_room(CreateRoomRequest(name="open"))
            await until(lambda: "blocked" in running.output, "the job is held up")
        yield running


async def test_a_job_that_holds_its_loop_up_is_gone_soon_after_dev_was_killed(tmp_path):
    async with dev_with_a_blocked_job(tmp_path) as running:
        started = descendants(running.process.pid)
        running.process.kill()
        await until(lambda: not [pid for pid in started if alive(pid)], "worker, image and jobs have ended", 12)


async def test_ctrl_c_says_what_is_waited_for_and_another_one_does_not_wait(tmp_path):
    async with dev_with_a_blocked_job(tmp_path) as running:
        started = descendants(running.process.pid)
        running.process.send_signal(signal.SIGINT)
        said = r"Waiting for the job AJ_\w+ in room open to end; Ctrl-C again ends it now\."
        await until(lambda: re.search(said, running.text), "what is waited for is said", 8)
        running.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(running.process.wait(), 8) == 130
        await until(lambda: not [pid for pid in started if alive(pid)], "worker, image and jobs have ended", 8)
    assert "Traceback" not in running.text


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--reload", "The worker was killed by SIGKILL. It starts again when a file changes."),
        ("--no-reload", "The worker was killed by SIGKILL."),
    ],
)
async def test_a_worker_that_died_in_the_call_is_said_to_be_dead(tmp_path, option, said):
    app = tmp_path / "app.py"
    app.write_text(APP % "one")
    async with dev(app, "--say", "hello", option, GREENROOM_MODELS="none") as running:
        await until(lambda: "is there" in running.text, "the call has begun", 30)
        os.kill(descendants(running.process.pid)[0], signal.SIGKILL)
        await until(lambda: said in running.output, "it is said", 20)
        assert "error  the agent failed: its worker was killed by SIGKILL" in running.text
        assert "Your turn" not in running.text
        if option == "--no-reload":
            assert await asyncio.wait_for(running.process.wait(), 20) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_a_call_that_was_interrupted_is_no_success(tmp_path, number):
    app = tmp_path / "app.py"
    app.write_text(APP % "one")
    async with dev(app, "--say", "hello", "--once", GREENROOM_MODELS="none") as running:
        await until(lambda: "joined room" in running.text, "the call has begun", 30)
        running.process.send_signal(number)
        assert await asyncio.wait_for(running.process.wait(), 30) == 128 + number
    assert "Traceback" not in running.text


async def test_a_worker_of_somebody_else_does_not_make_a_broken_file_ready(tmp_path):
    app = tmp_path / "app.py"
    app.write_text("raise ValueError('no good')\n")
    other = tmp_path / "elsewhere" / "other.py"
    other.parent.mkdir()
    other.write_text(APP % "other")
    async with dev(app) as running:
        url = await address(running)
        assert "not running; waiting for a change" in running.text
        assert "greenroom/agents" not in running.text and "runpy" not in running.text, "the user's frames only"
        keys = {"LIVEKIT_URL": url, "LIVEKIT_API_KEY": DEV_KEY, "LIVEKIT_API_SECRET": DEV_SECRET}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "greenroom.agents.run", str(other)),
            env={**os.environ, **keys},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        stranger = WorkerProcess(process)
        try:
            await until(lambda: "registered as" in stranger.text, "the other worker registers", 30)
            app.write_text("raise ValueError('still no good')\n")
            await until(lambda: running.text.count("before it was ready") == 2, "it fails again", 40)
            assert "ready" not in running.output
        finally:
            await stranger.stop()


async def test_a_call_ends_when_the_agent_fails_and_says_so_once(tmp_path):
    app = tmp_path / "app.py"
    app.write_text(
        "from greenroom.agents import Agent\nclass A(Agent):\n    def on_start(self):\n        raise ValueError('no model')\n"
    )
    async with dev(app, "--say", "hello", "--once") as running:
        assert await asyncio.wait_for(running.process.wait(), 40) == 1
    assert running.text.count("Traceback") == 1, running.text
    assert running.output[-1].strip() == "error  the agent failed: ValueError: no model"
    assert running.text.count("no model") == 3, "the user's line, the traceback's last, and the sentence"
    assert "no connection" not in running.text and "left the call" not in running.text


async def test_ctrl_c_while_loading_is_a_word_and_no_traceback(tmp_path):
    app = tmp_path / "app.py"
    app.write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    async with dev(app) as running:
        await until(lambda: "loading" in running.output, "the file is being loaded", 30)
        running.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(running.process.wait(), 30) == 0
    assert "Stopping" in running.text and "Traceback" not in running.text


@pytest.mark.parametrize("module", ["signal", "typing", "typer"])  # in the order of their import
async def test_ctrl_c_while_the_command_itself_is_imported_is_quiet(module):
    code = "import _signal, sys, os; sys.argv = ['greenroom', 'dev', 'x.py']\n" + (
        "_signal.signal(_signal.SIGINT, _signal.default_int_handler)\n"  # a shell in the background has it ignored
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == '{module}': os.kill(os.getpid(), _signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from greenroom.cli.entry import main; main()\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert output == b""
    assert process.returncode in (-signal.SIGINT, 130)
