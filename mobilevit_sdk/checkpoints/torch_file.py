"""What `torch.save` writes: the weights inside, out of whatever a trainer has put around them. Nothing is executed."""

from __future__ import annotations

import pickle
import re
import threading
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.text import one_line, shorten

_ZIP = b"PK\x03\x04"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")

# Where trainers keep the weights inside a checkpoint. The first that holds any wins: averaged weights are the ones to
# deploy. "module" is what a saved ModelEma or DistributedDataParallel calls its network.
_AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema", "ema")
_CONTAINERS = (*_AVERAGED, "state_dict", "model_state_dict", "model", "module")
_MAX_NESTING = 3

_DAMAGE = ("EOF", "zip archive", "record size")  # in torch's messages about files that were cut short

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


def looks_like_torch(start: bytes) -> bool:
    """Whether a file that starts like this may come from torch.save."""
    return start.startswith(_ZIP) or _PICKLE.match(start) is not None


def read_torch(path: Path, source: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a file, each contiguous and the only owner of its memory, and notes on what stood around them.

    Raises CheckpointError when the file is truncated, unsafe, or holds no tensors.
    """
    try:
        _check_archive(path)
        with warnings.catch_warnings(), _stand_ins_lock, torch.serialization.safe_globals(_STAND_INS):
            warnings.simplefilter("ignore")  # the error below says it in one line
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the formats have many ways to be broken, and torch reports them with many types
        raise CheckpointError(f"{source} {_defect(error)}") from error
    found, notes = _weights(content)
    if not isinstance(found, dict) or not any(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{source} holds {_describe(found)}, expected a state_dict: names and tensors")
    others = [str(name) for name, value in found.items() if not (isinstance(name, str) and _is_whole(value))]
    if others:
        raise CheckpointError(f"{source} holds no plain tensors in {shorten(others)}; save the state_dict() alone")
    tensors, more_notes = _without_wrappers(found)
    claimed = {storage.data_ptr(): storage.nbytes() for t in tensors.values() for storage in [t.untyped_storage()]}
    if sum(claimed.values()) > path.stat().st_size:  # before torch 1.6, a pickle could name storages and bring none
        raise CheckpointError(f"{source} claims {sum(claimed.values()):,} bytes of weights, more than the whole file")
    return _with_own_memory(tensors), (*notes, *more_notes)


def _check_archive(path: Path) -> None:
    """Raise ValueError for a zip archive that torch.save did not make, or that could unpack to more than its size."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return  # the format of torch before 1.6
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if any(part.filename.endswith("/constants.pkl") for part in parts):
        raise ValueError("TorchScript")
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
    if "TorchScript" in message:
        return "is a TorchScript archive, which holds a program; save the model's state_dict() instead"
    if culprit := re.search(r"GLOBAL ([\w.]+)", message):
        return (
            f"holds more than tensors ({culprit[1]}), and loading it could run code; where you trust its maker, save "
            f'the state_dict() alone: torch.save(torch.load(FILE, weights_only=False)["model"], "weights.pth")'
        )
    if isinstance(error, pickle.UnpicklingError):
        return "is damaged, or a pickle that torch.save did not write; save the state_dict() with torch.save"
    if isinstance(error, (EOFError, zipfile.BadZipFile)) or any(word in message for word in _DAMAGE):
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
    """Whether this is a dense tensor with all its elements in memory, so that its shape is not an empty claim."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        return False
    return value.device.type == "cpu" and value.nbytes <= value.untyped_storage().nbytes()


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
