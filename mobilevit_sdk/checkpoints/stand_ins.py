"""What stands in for the objects that a pickle holds beside tensors, so that weights can be read without them.

torch's restricted unpickler knows tensors, plain data and little else, and refuses a file with any other name in it.
Trainers save options, paths, numpy scalars and whatever else they have at hand. Each such name is given to the
unpickler as a stand-in: neither is the name imported, nor anything called. Most stand-ins are inert. Where a pickle
fills an object with items, the unpickler insists on a dictionary or a list, so that these stand in there.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # how pickles of Python 2 and 3 name the same
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_PLAIN = re.compile(rb"torch\._utils\._rebuild_\w+|torch\.\w+|collections\.OrderedDict|torch\.nn\.parameter\.Parameter")
_GLOBAL = re.compile(rb"c([\w.]+)\n([\w.<>]+)\n")  # as a pickle of protocol 2 names a class or a function
_LEGACY_PICKLES = (
    4  # that stand one after another in a file of torch before 1.6: magic number, version, system, content
)
_BUILDS = {"NEWOBJ", "REDUCE", "OBJ", "NEWOBJ_EX"}  # opcodes that make an object of a class, or call a function


class InertType(type):
    """The type of stand-ins, which answer a call, an instantiation and a state with themselves."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls

    def __setstate__(cls, state: Any) -> None:
        pass


class _Inert(metaclass=InertType):
    """Stands for any class or function, for what it makes, and for what that makes in turn."""

    def __new__(cls, *args: Any) -> Any:
        return cls


class _Mapping:
    """Stands for a class of dictionaries."""

    def __new__(cls, *args: Any) -> Any:
        return OrderedDict()


class _List:
    """Stands for a class of lists."""

    def __new__(cls, *args: Any) -> Any:
        return []


def stand_ins(path: Path) -> list[Any]:
    """What torch.serialization.safe_globals needs to read a file of torch.save without any class of its trainer.

    Empty where the file holds tensors and plain data alone, or is no such file.
    """
    try:
        uses = _uses(path)
    except (ValueError, IndexError, KeyError, AttributeError, EOFError, OSError, zipfile.BadZipFile):
        return []  # damaged: the unpickler will say so
    if not uses:
        return []
    found: list[Any] = [(InertType, "")]  # so that the unpickler lets an inert object be given a state
    for name, kind in uses.items():
        module, _, leaf = name.rpartition(".")
        renamed = NAME_MAPPING.get((module, leaf), (IMPORT_MAPPING.get(module, module), leaf))
        for full_name in {name, ".".join(renamed)}:
            found.append((kind or InertType(full_name, (_Inert,), {}), full_name))
    return found


def _uses(path: Path) -> dict[str, type | None]:
    """Every class and function that the file names, and what must stand in for it where its objects hold items."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return {name: kind for _ in range(_LEGACY_PICKLES) for name, kind in _uses_of(file).items()}
    with zipfile.ZipFile(path) as archive:
        part = next(each for each in archive.namelist() if each.endswith("data.pkl"))
        content = archive.read(part)
        if all(_PLAIN.fullmatch(b".".join(each)) for each in _GLOBAL.findall(content)):
            return {}  # the usual case, without a look at every opcode
        with archive.open(part) as file:
            return _uses_of(file)


def _uses_of(file: IO[bytes]) -> dict[str, type | None]:
    """The names in one pickle, by following what its opcodes do to a stack that knows only where an object came from.

    Nothing is built. Raises ValueError, IndexError or KeyError for what is no pickle.
    """
    uses: dict[str, type | None] = {}
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name == "GLOBAL":
            stack.append(str(argument).replace(" ", "."))
            uses.setdefault(stack[-1], None)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        else:
            taken = list(_pop(stack, opcode))
            first = taken[0] if taken else None
            if first in uses and name in ("SETITEM", "SETITEMS"):
                uses[first] = _Mapping
            elif first in uses and name in ("APPEND", "APPENDS"):
                uses[first] = _List
            # What these give is the object itself, or one of the class.
            keeps = name in _BUILDS or name in ("SETITEM", "SETITEMS", "APPEND", "APPENDS", "BUILD")
            stack += [
                pickletools.markobject if each is pickletools.markobject else first if keeps else None
                for each in opcode.stack_after
            ]
    return uses


def _pop(stack: list[Any], opcode: pickletools.OpcodeInfo) -> Iterator[Any]:
    """Take from the stack what the opcode takes, the lowest first."""
    before = list(opcode.stack_before)
    size = len(before)
    if pickletools.markobject in before:
        mark = max(i for i, each in enumerate(stack) if each is pickletools.markobject)
        size = len(stack) - mark + before.index(pickletools.markobject)
    taken = stack[len(stack) - size :] if size else []
    del stack[len(stack) - len(taken) :]
    yield from taken
