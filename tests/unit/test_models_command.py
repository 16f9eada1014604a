"""`greenroom models` as a person meets it: real processes, exit codes, one sentence each."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom import models

from .model_files import Files, at, declare, serving

BODY = bytes(range(256)) * 4000
CONTENT = {"model.bin": BODY}


class Command:
    def __init__(self, registry: Path, cache: Path) -> None:
        self.registry = registry
        self.cache = cache

    def arguments(self, *words: str) -> tuple[list[str], dict[str, str]]:
        command = [sys.executable, "-m", "greenroom", "models", "--registry", str(self.registry), *words]
        return command, os.environ | {"GREENROOM_MODELS": str(self.cache), "no_proxy": "127.0.0.1", "COLUMNS": "120"}

    def __call__(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command, env = self.arguments(*words)
        return subprocess.run(command, env=env | environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def files() -> Iterator[Files]:
    with serving() as files:
        files.bytes |= CONTENT
        yield files


@pytest.fixture
def command(files: Files, tmp_path: Path) -> Command:
    return Command(declare(tmp_path / "toy.toml", CONTENT, at(files.address)), tmp_path / "cache")


def test_a_model_from_nothing_to_removed(command: Command) -> None:
    assert "not there" in command("list").stdout
    missing = command("path", "toy")
    assert missing.returncode == 1 and missing.stdout == ""
    assert missing.stderr == (
        f"toy is not on this machine: `greenroom models --registry {command.registry} get toy` brings it.\n"
    )
    got = command("get")
    assert (got.returncode, got.stderr) == (0, "") and got.stdout.startswith("toy: there, 1.0 MB in ")
    assert command("get", "toy").stdout == "toy: there\n"
    assert command("path", "toy").stdout == f"{command.cache / 'toy'}\n"
    assert command("verify").stdout == "toy: complete and unchanged\n"
    (command.cache / "toy" / "model.bin").write_bytes(BODY[::-1])
    damaged = command("verify", "toy")
    assert damaged.returncode == 1 and damaged.stdout == ""
    assert damaged.stderr.startswith("toy: model.bin has the SHA-256 ") and damaged.stderr.count("\n") == 1
    removed = command("remove", "toy")
    assert (removed.returncode, removed.stdout) == (0, "toy: 1.0 MB freed\n")
    assert command("remove", "toy").stdout == "toy: was not there\n"
    none = command("verify")
    assert (none.returncode, none.stdout) == (1, "") and none.stderr == (
        f"No model is on this machine: `greenroom models --registry {command.registry} get toy` brings the default set.\n"
    )
    assert command("verify", "toy").returncode == 1


def test_the_list_for_programs(command: Command) -> None:
    listed = json.loads(command("list", "--json").stdout)
    assert listed["root"] == str(command.cache) and listed["wanted"] is True
    [row] = listed["models"]
    assert row["name"] == "toy" and row["bytes"] == len(BODY) and row["folder"] is None and row["default"] is False
    command("get", "--all")
    assert json.loads(command("list", "--json").stdout)["models"][0]["folder"] == str(command.cache / "toy")
    off = json.loads(command("list", "--json", GREENROOM_MODELS="none").stdout)
    assert off["wanted"] is False and off["models"][0]["folder"] is None


def test_a_file_where_the_folder_should_be_is_called_one(command: Command) -> None:
    command.cache.write_text("no folder")
    listed = command("list")
    assert listed.returncode == 0 and "kept in" not in listed.stdout
    assert f"{command.cache} is a file, so none can be kept there" in listed.stdout
    assert command("get").returncode == 1


def test_what_cannot_be_had_is_one_line_and_exit_code_1(command: Command, files: Files) -> None:
    files.bytes.clear()
    failed = command("get", "toy")
    assert failed.returncode == 1 and failed.stdout == "" and failed.stderr.count("\n") == 1
    assert "127.0.0.1 answers 404 to model.bin" in failed.stderr
    refused = command("get", "toy", GREENROOM_MODELS="none")
    assert refused.returncode == 1 and "GREENROOM_MODELS is none" in refused.stderr


def test_a_wrong_name_or_file_is_wrong_usage(command: Command, files: Files) -> None:
    for words in (("get", "toy", "doll"), ("path", "doll"), ("verify", "doll"), ("remove", "doll")):
        wrong = command(*words)
        assert wrong.returncode == 2 and "there is no model 'doll'" in wrong.stderr
    assert not files.asked, "nothing was fetched before the wrong name was seen"
    command.registry.write_text("toy = 1")
    broken = command("list")
    assert broken.returncode == 2 and "Traceback" not in broken.stderr


def test_a_terminal_sees_a_bar_and_a_log_does_not(command: Command, files: Files) -> None:
    files.hold_after = len(BODY) // 2
    files.gate.clear()
    ours, theirs = pty.openpty()
    arguments, env = command.arguments("get")
    process = subprocess.Popen(arguments, env=env | {"TERM": "xterm"}, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    seen = b""
    try:
        while b"toy: model.bin" not in seen or b"MB" not in seen:
            seen += os.read(ours, 4096)
        files.gate.set()
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert process.returncode == 0 and output.startswith("toy: there, 1.0 MB in ")
    assert command("get").stderr == ""


def test_the_models_that_come_with_greenroom(tmp_path: Path) -> None:
    environment = os.environ | {"GREENROOM_MODELS": str(tmp_path)}
    command = [sys.executable, "-m", "greenroom", "models", "list", "--json"]
    listed = json.loads(subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True).stdout)
    assert tuple(row["name"] for row in listed["models"] if row["default"]) == tuple(
        name for name in models.models() if name in models.DEFAULT
    )
    assert "models" in subprocess.run([*command[:3], "--help"], capture_output=True, text=True, timeout=60).stdout
