"""The wheel in an environment that has never seen the checkout: `greenroom dev` answers a call, and the page is there."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import WorkerProcess, until

ROOT = Path(__file__).parents[2]
LIMIT = 300.0


async def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The output of a command that must succeed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        env=clean() | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), LIMIT)
    finally:
        if process.returncode is None:
            process.kill()
    text = output.decode(errors="replace")
    assert process.returncode == 0, f"{command[0]}: exit code {process.returncode}\n{text[-2000:]}"
    return text


async def install(python: Path, what: str, cwd: Path) -> None:
    """With uv where it reaches the packages, as `make setup` does: pip takes half a minute."""
    try:
        await run(sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python, what, cwd=cwd)
    except AssertionError as error:
        print(f"uv could not ({error}); pip does it")
        await run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", what, cwd=cwd)


def clean() -> dict[str, str]:
    """The environment without what would lead to the checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def readme_example() -> str:
    [example] = re.findall(r"```python\n(.*?class Transcription.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return example


@pytest.mark.timeout(3 * LIMIT)
async def test_a_fresh_environment_runs_the_readmes_example(tmp_path):
    await run(ROOT / "scripts" / "wheel", tmp_path / "dist", cwd=ROOT, WHEEL_PROFILE="release")
    [wheel] = (tmp_path / "dist").glob("greenroom-*.whl")
    await run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    await install(python, f"{wheel}[speech]", cwd=tmp_path)
    greenroom = python.with_name("greenroom")
    where = await run(python, "-c", "import greenroom; print(greenroom.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path))
    assert re.fullmatch(r"greenroom \d+\.\d+\.\d+\n", await run(greenroom, "--version", cwd=tmp_path))

    assert "whisper-base" in await run(greenroom, "models", "list", cwd=tmp_path), (
        "the registry of models is in the wheel"
    )

    app = tmp_path / "transcription.py"
    app.write_text(readme_example())
    process = await asyncio.create_subprocess_exec(
        *(greenroom, "dev", app, "--port", "0", "--say", "What is seven times eight?"),
        cwd=tmp_path,
        env=clean() | {"PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    running = WorkerProcess(process)
    try:
        url = (await until(lambda: re.search(r"Playground\s+(http://\S+)", running.text), "the address", 60)).group(1)
        page = await asyncio.to_thread(fetch, url)
        [script] = re.findall(r'src="\.?/?(assets/[^"]+\.js)"', page)
        assert len(await asyncio.to_thread(fetch, f"{url}/{script}")) > 100_000
        await until(
            lambda: re.search("(seven|7) times (eight|8)", running.text.split("?", 1)[-1]), "the transcription", 60
        )
    finally:
        await running.stop()
    assert "Traceback" not in running.text


def fetch(url: str) -> str:
    # As a browser asks: others get the answer to a health check.
    request = urllib.request.Request(url, headers={"Accept": "text/html,*/*"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read().decode()


async def test_a_type_checker_knows_the_names(tmp_path):
    """Lazy names have their types, and the package says that it has types."""
    (tmp_path / "app.py").write_text(
        "from greenroom import agents, api, rtc\n"
        "reveal_type(rtc.Room())\nreveal_type(rtc.AudioFrame)\nreveal_type(agents.Agent())\n"
        "reveal_type(api.LiveKitAPI)\nreveal_type(api.CreateRoomRequest())\n"
        "rtc.Room().no_such_method()\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--cache-dir",
            tmp_path / "cache",
            "app.py",
        ),
        cwd=tmp_path,
        env=clean() | {"MYPYPATH": str(ROOT / "src")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await asyncio.wait_for(process.communicate(), 110))[0].decode()
    for line, name in (
        (2, "greenroom.rtc.room.Room"),
        (3, "greenroom.rtc.audio_frame.AudioFrame"),
        (4, "greenroom.agents.agent.Agent"),
        (5, "greenroom.api.client.LiveKitAPI"),
        (6, "livekit.protocol.room.CreateRoomRequest"),
    ):
        assert re.search(rf'^app.py:{line}: note: Revealed type is ".*{re.escape(name)}"$', output, re.MULTILINE), (
            output
        )
    assert 'app.py:7: error: "Room" has no attribute "no_such_method"' in output
    assert "Found 1 error" in output
