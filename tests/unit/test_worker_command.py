"""`python app.py start` and `greenroom token` as a person meets them: wrong usage is one clear sentence."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys

import pytest
from livekit.protocol import agent, models

from greenroom.agents import JobRequest
from greenroom.logs import configure_logging
from tests.conftest import ROOT

CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("LIVEKIT_")}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], env=CLEAN, capture_output=True, text=True, timeout=60)


def test_a_worker_without_keys_says_which_it_needs():
    done = run(str(ROOT / "examples" / "01_hello.py"), "start")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "LIVEKIT_API_KEY" in line and "LIVEKIT_API_SECRET" in line and "devkey" in line


def test_a_log_level_that_is_none_is_refused():
    done = run(str(ROOT / "examples" / "01_hello.py"), "start", "--log-level", "loud")
    assert done.returncode == 2 and "--log-level is 'loud': use debug" in done.stderr


@pytest.mark.parametrize(
    ("option", "said"), [("--port=80000", "port is 80000"), ("--udp-port=99999", "rtc.udp_port is 99999")]
)
def test_a_port_that_is_none_is_wrong_usage_of_dev(option, said):
    done = run("-m", "greenroom", "dev", str(ROOT / "examples" / "01_hello.py"), option)
    [line] = done.stderr.splitlines()
    assert done.returncode == 2 and line == f"greenroom dev: {said}, not a port (0 to 65535)"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "would allow nothing"),
        (["--room", "den", "--identity", "ann"], "would allow nothing"),
        (["--attribute", "a=b", "--agent", "kitt"], "would allow nothing"),
        (["--admin"], "--room"),
    ],
)
def test_a_token_that_nobody_could_use_is_refused(options, said):
    done = run("-m", "greenroom", "token", "create", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr


def test_the_usage_of_call_is_readable():
    assert "Usage: greenroom call [OPTIONS] [TEXT]..." in run("-m", "greenroom", "call", "--help").stdout


def test_servers_and_workers_write_their_logs_alike(monkeypatch, capsys):
    form = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} WARNING greenroom\.tried  one line\n"
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        root.handlers.clear()
        configure_logging("Warning")
        logging.getLogger("greenroom.tried").warning("one line")
        logging.getLogger("greenroom.tried").info("nothing")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert re.fullmatch(form, capsys.readouterr().err)
    with pytest.raises(ValueError, match="'loud': use debug"):
        configure_logging("loud")


async def test_a_request_shows_what_it_is_about():
    request = JobRequest(agent.Job(id="AJ_x", agent_name="kitt", room=models.Room(name="den")))
    assert repr(request) == "<JobRequest AJ_x for agent 'kitt' in room 'den', not answered>"
    await request.accept()
    assert "accepted" in repr(request)
