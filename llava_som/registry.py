"""One registry for every kind of plug-in: projectors, compressors, pruners, sources, recipes, annotators.

Adding a plug-in is one new file beside its siblings. Names are exact; a duplicate or unknown name is an error that says
what to write instead. The siblings are imported on the first lookup, so importing a registry costs nothing.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def closest_match_message(kind: str, given: object, allowed: Iterable[str]) -> str:
    """The one sentence for a name that does not exist: what was given, the closest match, everything allowed."""
    names = sorted(allowed)
    close = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown {kind} {given!r}.{hint} Allowed: {', '.join(names) or '(none)'}."


class Registry(Generic[T]):
    """Exact names to plug-ins of one kind, found by importing the modules of one package in sorted order.

    Args:
        kind: what a person calls such a plug-in ("projector"); used in errors.
        package: the package whose modules register themselves when imported ("llava_som.projectors").
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, T] = {}
        self._failed_imports: dict[str, Exception] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files a class or function under `name`; a second claim on the name is a ValueError."""

        def add(entry: T) -> T:
            if name in self._entries:
                first, second = self._entries[name].__module__, entry.__module__
                raise ValueError(f"The {self.kind} name {name!r} is registered twice: in {first} and in {second}.")
            self._entries[name] = entry
            return entry

        return add

    def get(self, name: str) -> T:
        """The plug-in called exactly `name`; a ValueError gives the closest name and any file that failed to import."""
        self._discover()
        if name in self._entries:
            return self._entries[name]
        failures = "".join(
            f"\n{module} could not be imported: {error!r}" for module, error in self._failed_imports.items()
        )
        raise ValueError(closest_match_message(self.kind, name, self._entries) + failures)

    def named(self, given: str | Mapping[str, Any]) -> dict[str, Any]:
        """A name, or `{"type": name, **options}`, as the latter; a ValueError for anything else."""
        if isinstance(given, str):
            return {"type": given}
        if not isinstance(given, Mapping) or not isinstance(given.get("type"), str):
            raise ValueError(
                f"{self.kind}={given!r}: has no type. Write a name, or its options as "
                f'{{"type": name, ...}}. Names: {", ".join(self.names())}.'
            )
        return dict(given)

    def resolve(self, given: str | Mapping[str, Any]) -> tuple[T, dict[str, Any]]:
        """The plug-in that a name, or `{"type": name, **options}`, stands for, and the options."""
        options = self.named(given)
        return self.get(options.pop("type")), options

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        self._discover()
        return sorted(self._entries)

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        package = importlib.import_module(self.package)
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
            path = f"{self.package}.{module.name}"
            try:
                importlib.import_module(path)
            except ImportError as error:  # an absent optional package must not take the other plug-ins down
                self._failed_imports[path] = error
