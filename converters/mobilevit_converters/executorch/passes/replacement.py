"""Methods of other packages, replaced for as long as a context lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

from mobilevit_converters.executorch.toolchain import import_module


def is_there(place: str) -> bool:
    """Whether `place`, a module and an attribute in it such as "package.module:Class.method", exists."""
    try:
        owner, name = _owner(place)
    except AttributeError:
        return False
    return hasattr(owner, name)


@contextmanager
def replaced(place: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """Within the context, `place` holds `wrap` of what it held before, or of None where there was nothing.

    For a process that does nothing else. What a class inherits is inherited again afterwards.
    """
    owner, name = _owner(place)
    own = vars(owner).get(name)
    setattr(owner, name, wrap(getattr(owner, name, None)))
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def _owner(place: str) -> tuple[Any, str]:
    """The object that has the attribute, and the attribute's name. Raises AttributeError and ToolchainError."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    return reduce(getattr, owners, import_module(module)), name
