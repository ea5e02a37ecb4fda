"""Checkpoints on the Hugging Face hub: the weights, and the files that stand beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobilevit_sdk.checkpoints.index_file import read_shards
from mobilevit_sdk.errors import CheckpointError
from mobilevit_sdk.files import full_disk
from mobilevit_sdk.text import one_line

PREFIX = "hf-hub:"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there
# Repositories that hold the weights as they were released.
RELEASES = (f"{PREFIX}timm/", f"{PREFIX}apple/", f"{PREFIX}facebook/detr-")
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"


def download(source: str, weights_files: tuple[str, ...] = WEIGHTS, **options: Any) -> Path:
    """The local copy of the weights of `hf-hub:org/name`, with the files that describe them beside it.

    `weights_files` are the names that they may have, and `options` those of `hf_hub_download`. Raises CheckpointError
    when there is no such repository, it has no weights, or the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    repository = source.removeprefix(PREFIX)

    def fetch(names: tuple[str, ...]) -> Path | None:
        for name in names:
            try:
                return Path(hf_hub_download(repository, name, **options))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
        return None

    try:
        weights = fetch(weights_files) or fetch(tuple(f"{name}.index.json" for name in weights_files))
        if weights is None:
            raise CheckpointError(f"{source} has no {' or '.join(weights_files)}")
        for shard in read_shards(weights, source) or ():
            fetch((shard,))
        for companion in (CONFIG, PROCESSOR):
            fetch((companion,))
    except HFValidationError as error:
        raise CheckpointError(f"{source} names no repository; write {PREFIX}organization/name") from error
    except GatedRepoError as error:
        raise CheckpointError(f"{source} is gated: accept its terms on the hub, then `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"{source} does not exist on the hub, or is private (`hf auth login`)") from error
    except OSError as error:  # offline, no route, a proxy, a full disk: all of the hub's and httpx's others
        if (full := full_disk(error)) is not None:
            raise CheckpointError(f"{source} cannot be kept in the local cache: {full}") from error
        reason = one_line(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise CheckpointError(
            f"{source} is not in the local cache and the hub cannot be reached ({reason}); give a local file"
        ) from error
    return weights
