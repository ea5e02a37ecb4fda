"""What `torch.save` writes: the weights inside, out of whatever a trainer has put around them. Nothing is executed."""

from __future__ import annotations

import pickle
import re
import threading
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobilevit_sdk.checkpoints.foreign import describe_archive
from mobilevit_sdk.checkpoints.stand_ins import InertType, stand_ins
from mobilevit_sdk.checkpoints.wrappers import is_averaged
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.text import one_line, shorten

_ZIP = b"PK\x03\x04"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")

# Where trainers keep the weights inside a checkpoint, the likeliest first. "module" is what a saved ModelEma or
# DistributedDataParallel calls its network.
_USUAL = ("state_dict", "model_state_dict", "model", "module")
_OF_TRAINING = re.compile(r"optim|sched|scaler|grad|momentum|exp_avg", re.IGNORECASE)  # entries that are as large
_NOTHING = re.compile(r"(?!)")
_MAX_NESTING = 4
_SMALL = 1 / 10  # of the largest entry's tensors: metrics, prototypes and the like hold fewer

_DAMAGE = ("EOF", "zip archive", "record size")  # in torch's messages about files that were cut short


_SAVE_WEIGHTS = (
    "where you trust its maker, save its weights: torch.save(torch.load(FILE, weights_only=False){}.state_dict(), "
    '"weights.pth")'
)
_stand_ins_lock = threading.Lock()  # torch keeps one list for the whole process


class _ForeignError(Exception):
    """A zip archive of something else."""


def looks_like_torch(start: bytes) -> bool:
    """Whether a file that starts like this may come from torch.save."""
    return start.startswith(_ZIP) or _PICKLE.match(start) is not None


def read_torch(path: Path, source: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a file, each contiguous and the only owner of its memory, and notes on what stood around them.

    Raises CheckpointError when the file is truncated, unsafe, or holds no tensors.
    """
    try:
        _check_archive(path)
        with warnings.catch_warnings(), _stand_ins_lock, torch.serialization.safe_globals(stand_ins(path)):
            warnings.simplefilter("ignore")  # the error below says it in one line
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the formats have many ways to be broken, and torch reports them with many types
        raise CheckpointError(f"{source} {_defect(error)}") from error
    held, notes = _weights(content, source)
    strange = [str(name) for name, value in held.items() if isinstance(value, Tensor) and not _is_whole(value)]
    if strange:
        raise CheckpointError(f"{source} holds no plain tensors in {shorten(strange)}; save the state_dict() alone")
    found = {name: value for name, value in held.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if left := [str(name) for name in held if name not in found]:
        notes.append(f"left {shorten(left)} among the tensors: not weights")
    claimed = {storage.data_ptr(): storage.nbytes() for t in found.values() for storage in [t.untyped_storage()]}
    if sum(claimed.values()) > path.stat().st_size:  # before torch 1.6, a pickle could name storages and bring none
        raise CheckpointError(f"{source} claims {sum(claimed.values()):,} bytes of weights, more than the whole file")
    return _with_own_memory(found), tuple(notes)


def _check_archive(path: Path) -> None:
    """Raise _ForeignError for a zip archive of something else, ValueError for one that could unpack to more."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return  # the format of torch before 1.6
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if (foreign := describe_archive([part.filename for part in parts])) is not None:
        raise _ForeignError(foreign)
    if any(part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size for part in parts):
        raise ValueError("its parts are compressed, which torch.save never does")
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("its parts overlap, which torch.save never does")


def _with_own_memory(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, copied where they are views of something larger, or share their memory."""
    users = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors.values())
    owned = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        alone = users[storage.data_ptr()] == 1 and storage.nbytes() == tensor.nbytes and tensor.is_contiguous()
        owned[name] = tensor.detach() if alone else tensor.detach().clone(memory_format=torch.contiguous_format)
    return owned


def _defect(error: Exception) -> str:
    message = one_line(str(error), limit=2000)
    if isinstance(error, _ForeignError):
        return f"is {message}"
    if culprit := re.search(r"GLOBAL ([\w.]+)", message):
        return (
            f"holds more than tensors ({culprit[1]}), and loading it could run code; where you trust its maker, save "
            f'the state_dict() alone: torch.save(torch.load(FILE, weights_only=False)["model"], "weights.pth")'
        )
    if "persistent_load of storage" in message:
        return f"holds a whole module, as torch before 1.6 saved it; {_SAVE_WEIGHTS.format('')}"
    if "Unsupported operand" in message:
        return "is damaged, or saved with another pickle_protocol than 2; save the state_dict() with torch.save's own"
    if isinstance(error, pickle.UnpicklingError):
        return "is damaged, or a pickle that torch.save did not write; save the state_dict() with torch.save"
    if isinstance(error, (EOFError, zipfile.BadZipFile)) or any(word in message for word in _DAMAGE):
        return "is a truncated or damaged PyTorch checkpoint; download or copy it again"
    return f"cannot be read as a PyTorch checkpoint: {message[:200] or type(error).__name__}"


def _weights(content: Any, source: str) -> tuple[dict[Any, Any], list[str]]:
    """The state_dict inside what torch.load returned, and what stood beside it.

    Raises CheckpointError where there is none, or several of which none is the one to take.
    """
    for skipped in (_OF_TRAINING, _NOTHING):
        entries = dict(_entries(content, skipped))
        largest = max(entries.values(), default=0)
        if largest:
            break
    if not largest:
        raise CheckpointError(f"{source} holds {_describe(content)}")
    large = [path for path, tensors in entries.items() if tensors >= _SMALL * largest]
    averaged = [path for path in large if is_averaged(".".join(path))]
    usual = next((paths for name in _USUAL if (paths := [path for path in large if name in path])), [])
    taken = large if len(large) == 1 else averaged or usual or large
    if len(taken) > 1:
        names = ", ".join(one_line(".".join(path)) for path in taken)
        keys = "".join(f'["{one_line(key)}"]' for key in taken[0])
        raise CheckpointError(
            f"{source} holds several networks ({names}); save the one to use: torch.save(torch.load(FILE, "
            f'weights_only=False){keys}, "weights.pth")'
        )
    notes = []
    for key in taken[0]:
        left = [str(each) for each in content if each != key]
        if left:
            average = ", averaged weights (EMA)," if is_averaged(key) else ""
            notes.append(f"took {key}{average} and left {shorten(left, 6)}")
        content = content[key]
    return content, notes


def _entries(
    content: Any, skipped: re.Pattern[str], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], int]]:
    """The keys that lead to each dictionary with names and tensors, and how many tensors it holds."""
    if not isinstance(content, dict) or len(path) > _MAX_NESTING:
        return
    yield path, sum(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    for key, value in content.items():
        if isinstance(key, str) and not skipped.search(key):
            yield from _entries(value, skipped, (*path, key))


def _is_whole(value: object) -> bool:
    """Whether this is a dense tensor with all its elements in memory, so that its shape is not an empty claim."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        return False
    return value.device.type == "cpu" and value.nbytes <= value.untyped_storage().nbytes()


def _describe(content: Any) -> str:
    """What stands in a file without names and tensors, and what to do."""
    if isinstance(content, InertType):
        return f"a pickled {content.__name__}, a whole object instead of weights; {_SAVE_WEIGHTS.format('')}"
    if isinstance(content, dict):
        objects = [key for key, value in content.items() if isinstance(value, InertType)]
        network = next((key for key in objects if is_averaged(str(key))), None)
        network = network or next((key for key in (*_USUAL, *objects) if key in objects), None)
        if network is not None:
            whole = f"a pickled {content[network].__name__} in {one_line(str(network))!r}, a whole object"
            key = f'["{one_line(str(network))}"]'
            return f"{whole} instead of weights; {_SAVE_WEIGHTS.format(key)}"
        found = f"a dictionary with {shorten([str(key) for key in content])}" if content else "an empty dictionary"
    else:
        found = f"a {type(content).__name__}"
    return f"{found}, expected a state_dict: names and tensors"
