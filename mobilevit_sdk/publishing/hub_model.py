"""A network as the Hugging Face hub's own library keeps one: `from_pretrained`, `save_pretrained`, `push_to_hub`.

The folder holds `model.safetensors` as `save_checkpoint` writes it, so `load_checkpoint("hf-hub:organization/name")`
and every command take it, too, and `config.json` with the spec. Weights are safetensors alone: no pickle is read here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import ModelCard, ModelCardData, PyTorchModelHubMixin
from torch import Tensor, nn

from mobilevit_sdk.checkpoints import hub
from mobilevit_sdk.checkpoints.checkpoint import save_checkpoint
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.own_config import own_config
from mobilevit_sdk.errors import CheckpointError, RequestError
from mobilevit_sdk.publishing.front_matter import license_data
from mobilevit_sdk.publishing.push import in_one_line
from mobilevit_sdk.spec import ModelSpec
from mobilevit_sdk.text import markdown, one_line

WEIGHTS = hub.WEIGHTS[0]

_CARD = """---
{front_matter}
---

# {model}

{description}. License of the weights: {license}.

```python
from mobilevit_sdk import HubModel

model = HubModel.from_pretrained("{repository}")
```

`mobilevit convert hf-hub:{repository}` makes files for phones of it, each compared with PyTorch.
"""


class HubModel(nn.Module, PyTorchModelHubMixin, library_name="mobilevit-sdk"):
    """A network in reference form and its spec, with the methods of the hub's library.

    Shapes: those of `network`: [B, 3, H, W] -> [B, num_classes] for a classifier. `spec.preprocessing` says how images
    are prepared.

    >>> checkpoint = load_checkpoint()
    >>> HubModel(checkpoint.model, checkpoint.spec).save_pretrained("birds")  # doctest: +SKIP
    >>> model = HubModel.from_pretrained("birds")  # doctest: +SKIP
    """

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec.entries[0]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return cast("Tensor | tuple[Tensor, ...]", self.network(x))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        map_location: str | torch.device = "cpu",
        **model_kwargs: Any,
    ) -> HubModel:
        """The network of a folder, or of `organization/name` on the hub, in eval mode.

        What `save_pretrained` wrote, and what `mobilevit export` or a release has in a folder: whatever
        `load_checkpoint` takes, as safetensors. Raises CheckpointError for anything else, in one line, and RequestError
        for options of the network, which its config decides.
        """
        if model_kwargs:
            raise RequestError(f"from_pretrained takes no {', '.join(sorted(model_kwargs))}: {hub.CONFIG} decides it")
        source = str(pretrained_model_name_or_path)
        if Path(source).exists():
            weights = Path(source) / WEIGHTS
            if not weights.is_file():
                raise CheckpointError(f"{source} is no folder with a {WEIGHTS}; `load_checkpoint` takes other files")
        else:
            weights = hub.download(
                hub.PREFIX + source,
                (WEIGHTS,),
                force_download=force_download,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                revision=revision,
            )
        with weights.open("rb") as stream:
            if stream.read(9)[8:] != b"{":
                raise CheckpointError(f"{source}: {weights.name} holds no safetensors, and nothing else is read here")
        checkpoint = load_checkpoint(weights)
        return cls(checkpoint.model, checkpoint.spec).to(map_location)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload to `organization/name`, which is made where there is none; `options` are those of the hub's library.

        Returns the address of the commit. Raises RequestError for what the hub refuses.
        """
        with in_one_line(repo_id):
            return super().push_to_hub(repo_id, **{"model_card_kwargs": {"repo_id": repo_id}, **options})

    def _save_pretrained(self, save_directory: Path) -> None:
        save_checkpoint(self.network, self.spec, save_directory / WEIGHTS)
        text = json.dumps(own_config(self.spec), indent=2, ensure_ascii=False)
        (save_directory / hub.CONFIG).write_text(text + "\n", encoding="utf-8")

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """A card from the spec alone; `mobilevit card` writes one of converted files and what was measured of them."""
        spec = self.spec
        data = ModelCardData(
            library_name="mobilevit-sdk",
            tags=["mobilevit-sdk", "pytorch_model_hub_mixin", spec.family],
            **license_data(spec.license),
        )
        return ModelCard(
            _CARD.format(
                front_matter=data.to_yaml(),
                model=markdown(spec.model),
                description=markdown(spec.describe()),
                license=markdown(spec.license) if spec.license else "not stated",
                repository=one_line(str(kwargs.get("repo_id") or "organization/name"), 200),
            )
        )
