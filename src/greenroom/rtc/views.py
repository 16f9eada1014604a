"""Live mappings of public objects, for programs to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, TypeVar

V = TypeVar("V", covariant=True)


class Shown(Protocol[V]):
    """What the SDK keeps of something; `view` is what programs see of it."""

    @property
    def view(self) -> V: ...


class Views(Mapping[str, V]):
    """The public objects of a dict of cores, always as the dict is now."""

    def __init__(self, cores: Mapping[str, Shown[V]]) -> None:
        self._cores = cores

    def __getitem__(self, key: str) -> V:
        return self._cores[key].view

    def __iter__(self) -> Iterator[str]:
        return iter(self._cores)

    def __len__(self) -> int:
        return len(self._cores)

    def __repr__(self) -> str:
        return repr(dict(self))
