"""The cache of models on this machine: what is there, and how it gets there in one piece."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import MissingModel, ModelError, UnknownModel
from .registry import File, Model, read

if TYPE_CHECKING:
    from .sources import Progress

__all__ = ["Registry", "root", "wanted"]

VARIABLE = "GREENROOM_MODELS"
STAMP = ".complete"
"""In a model's folder: this fingerprint was checked, and the files had these sizes then."""
WAIT = 2 * 3600.0
"""Seconds to wait for another process that fetches the same model."""


def wanted() -> bool:
    """Whether this machine is to use models: false with `GREENROOM_MODELS=none`."""
    return os.environ.get(VARIABLE, "").strip().lower() != "none"


def root() -> Path:
    """The folder of all models: `GREENROOM_MODELS`, or `greenroom/models` in the XDG cache folder."""
    chosen = os.environ.get(VARIABLE, "").strip()
    if chosen and wanted():
        return Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    return base / "greenroom" / "models"


class Registry:
    """The models that one file declares, and their folders on this machine."""

    def __init__(self, path: Path, options: str = "") -> None:
        """`options` are those with which `greenroom models` reads this file; its advice has them."""
        self._path = path
        self._options = f" {options}" if options else ""
        self._unreachable: dict[str, float] = {}

    @cached_property
    def models(self) -> dict[str, Model]:
        """By name, as declared. Raises `RegistryError` when the file cannot be used."""
        return read(self._path)

    def model(self, name: str) -> Model:
        """Raises `UnknownModel`, which lists what there is."""
        if name not in self.models:
            raise UnknownModel(f"there is no model {name!r}: choose one of {', '.join(self.models)}")
        return self.models[name]

    def find(self, name: str) -> Path | None:
        """The folder of a complete model, or None. Looks at sizes, never at contents, and never at the network."""
        model = self.model(name)
        folder = root() / name
        return folder if wanted() and _stamped(folder, model) else None

    def require(self, name: str) -> Path:
        """The folder of a complete model. Raises `MissingModel`, which says what to do."""
        if folder := self.find(name):
            return folder
        if not wanted():
            raise MissingModel(f"{name} is not used because {VARIABLE} is none: unset it, or point it to a folder")
        raise MissingModel(f"{name} is not on this machine: `{self.command('get', name)}` brings it")

    def get(self, name: str, progress: Progress | None = None) -> Path:
        """The folder of a model, which is fetched if it is not there. Blocks; one process does it, others wait for it.

        Raises `ModelError` when the model cannot be had; what has come so far is kept for the next attempt.
        """
        model = self.model(name)
        if folder := self.find(name):
            return folder
        _refuse_none(name)
        # These bring HTTP, TLS and archives along, which nobody needs who only looks.
        from .sources import Collector

        with _explained(model), self._locked(name, progress):
            if folder := self.find(name):  # who held the lock has brought it
                return folder
            stage = root() / ".part" / name
            collector = Collector(model, stage, progress, self._unreachable)
            missing = [file for file in model.files if not self._kept(name, file, collector.path(file))]
            if lost := collector.collect(missing):
                raise ModelError(self._cannot(name, lost, collector.problems))
            return _publish(stage, root() / name, model)

    def verify(self, name: str) -> list[str]:
        """Read every file and compare it with what is declared. Returns what is wrong, one clause each.

        A folder that was put there by hand counts as complete from then on; a damaged one no longer does.
        Raises `MissingModel` when there is no folder.
        """
        model = self.model(name)
        _refuse_none(name)
        folder = root() / name
        if not folder.is_dir():
            self.require(name)
        with _explained(model), self._locked(name):
            problems = [problem for file in model.files if (problem := _difference(folder / file.path, file))]
            if problems:
                (folder / STAMP).unlink(missing_ok=True)
            elif not _stamped(folder, model):
                _write_stamp(folder, model)
        return problems

    def remove(self, name: str) -> int:
        """Delete a model and what is left of attempts to get it. Returns the bytes that this gave back."""
        model = self.model(name)
        _refuse_none(name)
        freed = 0
        if not root().is_dir():
            return 0
        with _explained(model), self._locked(name):
            for folder in (root() / name, root() / ".part" / name):
                if folder.exists():
                    (folder / STAMP).unlink(missing_ok=True)  # first: a half deleted model is not complete
                    freed += sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
                    shutil.rmtree(folder)
        return freed

    def command(self, verb: str, name: str) -> str:
        """What to type: a text for people."""
        return f"greenroom models{self._options} {verb} {name}"

    def _kept(self, name: str, file: File, staged: Path) -> bool:
        """Whether a right file is there from an earlier attempt, or in a folder that has others that are not."""
        if not _difference(staged, file):
            return True
        staged.unlink(missing_ok=True)
        there = root() / name / file.path
        if _difference(there, file):
            return False
        staged.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(there, staged)
        except OSError:  # file systems without links
            shutil.copyfile(there, staged)
        return True

    def _cannot(self, name: str, lost: list[File], problems: list[str]) -> str:
        files = ", ".join(file.path for file in lost[:3]) + (" and others" if len(lost) > 3 else "")
        reasons = "; ".join(dict.fromkeys(problems)) or "its publisher could not be reached a moment ago"
        return (
            f"{name} cannot be had, {files} is missing ({reasons}): connect this machine to the network or to a package"
            f" mirror and run `{self.command('get', name)}` again, or copy the files to {root() / name} and run"
            f" `{self.command('verify', name)}`, or set {VARIABLE}=none to do without models"
        )

    @contextmanager
    def _locked(self, name: str, progress: Progress | None = None) -> Iterator[None]:
        """Between processes. The kernel frees the lock of a process that dies."""
        path = root() / ".lock" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(handle, name, progress or (lambda done, total, what: None))
            yield
        finally:
            os.close(handle)


def _lock(handle: int, name: str, progress: Callable[[int, int, str], None]) -> None:
    deadline = time.monotonic() + WAIT
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ModelError(
                    f"another process has been busy with {name} for {WAIT / 3600:g} hours: end it"
                ) from None
        progress(0, 0, f"{name}: another process fetches it")
        time.sleep(0.2)


def _refuse_none(name: str) -> None:
    if not wanted():
        raise ModelError(f"{name} is not touched because {VARIABLE} is none: unset it, or point it to a folder")


def _stamped(folder: Path, model: Model) -> bool:
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return bool(stamp["fingerprint"] == model.fingerprint) and all(
            (folder / file.path).stat().st_size == file.size for file in model.files
        )
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _write_stamp(folder: Path, model: Model) -> None:
    temporary = folder / f"{STAMP}.new"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump({"model": model.name, "fingerprint": model.fingerprint}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / STAMP)
    _sync(folder)


def _difference(path: Path, file: File) -> str:
    """How a file differs from what is declared; empty when it does not."""
    import hashlib

    if not path.is_file():
        return f"{file.path} is missing"
    if (size := path.stat().st_size) != file.size:
        return f"{file.path} has {size} bytes, expected {file.size}"
    with path.open("rb") as content:
        got = hashlib.file_digest(content, "sha256").hexdigest()
    return "" if got == file.sha256 else f"{file.path} has the SHA-256 {got}, expected {file.sha256}"


def _publish(stage: Path, folder: Path, model: Model) -> Path:
    """Put the staged files in place: on the disk first, then under their name, all at once."""
    files = stage / "files"
    declared = {files / file.path for file in model.files}
    for path in [path for path in files.rglob("*") if path.is_file() and path not in declared]:
        path.unlink()  # of an older declaration
    for path in sorted(files.rglob("*"), reverse=True):  # what is in a folder before the folder
        _sync(path)
    _write_stamp(files, model)
    if folder.exists():
        old = stage / "old"
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    files.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(stage, ignore_errors=True)
    return folder


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _explained(model: Model) -> Iterator[None]:
    """Errors of the disk as one sentence."""
    try:
        yield
    except OSError as error:
        where = root()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            words = f"the disk of {where} is full and {model.name} needs {model.size / 1e6:.0f} MB: make room"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            words = f"{error.filename or where} may not be written, so {model.name} cannot be kept there: change that"
        else:
            words = f"{model.name} cannot be kept in {where} ({error.strerror or error}): mend that"
        raise ModelError(f"{words}, or point {VARIABLE} to another folder") from error
