"""What `torch.save` writes: the weights inside, out of whatever a trainer has put around them. Nothing is executed."""

from __future__ import annotations

import pickle
import re
import struct
import threading
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobilevit_sdk.checkpoints.parallel_read import FileVersion, Reading
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.text import one_line, shorten

_ZIP = b"PK\x03\x04"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")

# Where trainers keep the weights inside a checkpoint. The first that holds any wins: averaged weights are the ones to
# deploy. "module" is what a saved ModelEma or DistributedDataParallel calls its network.
_AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema", "ema")
_CONTAINERS = (*_AVERAGED, "state_dict", "model_state_dict", "model", "module")
_MAX_NESTING = 3

_READ_AHEAD = 1 << 29  # bytes: files that are larger may well be no checkpoint of a mobile network at all
_PLACE = "_checkpoint_offset"  # torch's name for where in the file a storage is, when it is asked for shapes alone

# Put before every name by DistributedDataParallel, torch.compile and Lightning.
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_AVERAGE_COUNT = "n_averaged"  # of torch.optim.swa_utils.AveragedModel


class _Inert:
    """Stands for an object that is left unread: it takes whatever a pickle does to it, and does nothing."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _inert_mapping(*args: Any) -> OrderedDict[Any, Any]:
    """Stands for a dictionary of another kind that a pickle fills."""
    return OrderedDict()


# What trainers save beside weights: options, paths and single numbers. torch's restricted unpickler, which knows
# tensors and nothing else, is given these in their place, so that neither the classes nor their packages are touched.
_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *(
        (_Inert, name)
        for name in (
            "argparse.Namespace",  # timm, Cream's EfficientViT, DeiT
            "builtins.dict",
            "builtins.float",
            "builtins.int",
            "builtins.list",
            "numpy._core.multiarray._reconstruct",
            "numpy._core.multiarray.scalar",
            "numpy.core.multiarray._reconstruct",
            "numpy.core.multiarray.scalar",
            "numpy.dtype",
            "numpy.ndarray",
            "pathlib.PosixPath",
            "pathlib._local.PosixPath",  # Python 3.13
            "pathlib.WindowsPath",
            "torch.torch_version.TorchVersion",
        )
    ),
    (OrderedDict, "yacs.config.CfgNode"),  # Cream's TinyViT, Swin
    (OrderedDict, "easydict.EasyDict"),
    (_inert_mapping, "collections.defaultdict"),
]
_stand_ins_lock = threading.Lock()  # torch keeps one list for the whole process

Contents = tuple[dict[str, Tensor], dict[str, int] | None, Reading | None, tuple[str, ...]]


def looks_like_torch(start: bytes) -> bool:
    """Whether a file that starts like this may come from torch.save."""
    return start.startswith(_ZIP) or _PICKLE.match(start) is not None


def read_torch(version: FileVersion, reader: Executor | None) -> Contents:
    """The tensors of a file, the places of their storages, what `reader` reads of these, and notes.

    Tensors are without values, on the meta device; files of torch before 1.6 are read whole: these have no places.
    Raises CheckpointError when the file is truncated, unsafe, or holds no tensors.
    """
    path, source, reading = version.path, version.source, None
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_ZIP)) == _ZIP
        storages = _storages(path) if zipped else {}
        if reader is not None and zipped and version.state.size <= _READ_AHEAD:
            reading = Reading(version, storages, reader)  # it takes as long as to learn what they are
        with warnings.catch_warnings(), _stand_ins_lock, torch.serialization.safe_globals(_STAND_INS):
            warnings.simplefilter("ignore")  # the error below says it in one line
            content = torch.load(path, map_location="meta" if zipped else "cpu", weights_only=True)
    except Exception as error:  # the formats have many ways to be broken, and torch reports them with many types
        raise CheckpointError(f"{source} {_defect(error)}") from error
    found, notes = _weights(content)
    if not isinstance(found, dict) or not any(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{source} holds {_describe(found)}, expected a state_dict: names and tensors")
    others = [str(name) for name, value in found.items() if not (isinstance(name, str) and _is_whole(value))]
    if others:
        raise CheckpointError(f"{source} holds no plain tensors in {shorten(others)}; save the state_dict() alone")
    tensors, more_notes = _without_wrappers(found)
    if not zipped:
        return tensors, None, None, (*notes, *more_notes)
    misplaced = [name for name, tensor in tensors.items() if not _is_in_place(tensor, storages)]
    if misplaced:
        raise CheckpointError(
            f"{source} has no place of its own for {shorten(misplaced)}: it is damaged, or was packed by something "
            f"else than torch.save; load it with torch and save it again"
        )
    places = {name: _place(tensor) for name, tensor in tensors.items() if tensor.numel()}
    if reader is not None and reading is None:
        reading = Reading(version, {place: storages[place] for place in places.values()}, reader)
    return tensors, places, reading, (*notes, *more_notes)


def _storages(path: Path) -> dict[int, int]:
    """Where the storages of a zip archive begin, and their bytes. Raises ValueError for one not made by torch.save.

    A packed part could unpack to any size; and the weights are read by place and size, which must be a storage's.
    """
    storages = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        parts = archive.infolist()
        if any(part.filename.endswith("/constants.pkl") for part in parts):
            raise ValueError("TorchScript")
        for part in parts:
            if part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size:
                raise ValueError("its parts are compressed, which torch.save never does")
            if part.filename.split("/")[-2:-1] == ["data"]:
                file.seek(part.header_offset + 26)
                name_bytes, extra_bytes = struct.unpack("<HH", file.read(4))
                storages[part.header_offset + 30 + name_bytes + extra_bytes] = part.file_size
    return storages


def _defect(error: Exception) -> str:
    message = one_line(str(error), limit=2000)
    if "TorchScript" in message:
        return "is a TorchScript archive, which holds a program; save the model's state_dict() instead"
    if culprit := re.search(r"GLOBAL ([\w.]+)", message):
        return (
            f"holds more than tensors ({culprit[1]}), and loading it could run code; where you trust its maker, save "
            f'the state_dict() alone: torch.save(torch.load(FILE, weights_only=False)["model"], "weights.pth")'
        )
    if isinstance(error, pickle.UnpicklingError):
        return "is damaged, or a pickle that torch.save did not write; save the state_dict() with torch.save"
    if isinstance(error, (EOFError, zipfile.BadZipFile, struct.error)) or "EOF" in message or "zip archive" in message:
        return "is a truncated or damaged PyTorch checkpoint; download or copy it again"
    return f"cannot be read as a PyTorch checkpoint: {message[:200] or type(error).__name__}"


def _weights(content: Any) -> tuple[Any, list[str]]:
    """The state_dict inside what torch.load returned, and what stood beside it."""
    notes = []
    for _ in range(_MAX_NESTING):
        outer = content if isinstance(content, dict) else {}
        taken = next((key for key in _CONTAINERS if _holds_tensors(outer.get(key))), None)
        if taken is None:
            break
        content = outer[taken]
        left = [str(key) for key in outer if key != taken]
        if left:
            averaged = ", averaged weights (EMA)," if taken in _AVERAGED else ""
            notes.append(f"took {taken}{averaged} and left {shorten(left, 6)}")
    return content, notes


def _holds_tensors(value: Any, nesting: int = _MAX_NESTING) -> bool:
    if not isinstance(value, dict) or not nesting:
        return False
    if any(isinstance(each, Tensor) for each in value.values()):
        return True
    return any(_holds_tensors(value.get(key), nesting - 1) for key in _CONTAINERS)


def _is_whole(value: object) -> bool:
    """Whether this is a dense tensor with all its elements, so that its shape is no empty claim."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        return False
    storage = value.untyped_storage()
    reach = sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True)) + 1
    end = value.storage_offset() + (max(reach, value.numel()) if value.numel() else 0)
    return end * value.element_size() <= storage.nbytes() and (value.device.type == "cpu" or hasattr(storage, _PLACE))


def _is_in_place(tensor: Tensor, storages: dict[int, int]) -> bool:
    """Whether a storage of the archive is exactly the tensor's."""
    size = tensor.untyped_storage().nbytes()
    return not size or storages.get(_place(tensor)) == size


def _place(tensor: Tensor) -> int:
    """Where in the file the storage of a tensor begins."""
    place: int = getattr(tensor.untyped_storage(), _PLACE)
    return place


def _describe(content: Any) -> str:
    if isinstance(content, dict):
        return f"a dictionary with {shorten([str(key) for key in content])}" if content else "an empty dictionary"
    return "an object" if isinstance(content, _Inert) else f"a {type(content).__name__}"


def _without_wrappers(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors without what wrappers put before every name."""
    notes = []
    if _AVERAGE_COUNT in tensors:
        tensors = {name: tensor for name, tensor in tensors.items() if name != _AVERAGE_COUNT}
        notes.append(f"left {_AVERAGE_COUNT}, a count of averaged models")
    while prefix := next((p for p in _WRAPPERS if tensors and all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors, notes
