"""The accuracy of each head of a network with a distillation token, beside that of their mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from torch import nn

from mobilevit_sdk.layers import TokenClassifier
from mobilevit_sdk.layers.hooks import Hook, forward_hooks
from mobilevit_sdk.tasks.accuracy import top1_share
from mobilevit_sdk.tasks.task import Together, all_batches


@contextmanager
def watch_heads(
    network: nn.Module, labels: Sequence[int] | None, together: Together | None = None
) -> Iterator[dict[str, float]]:
    """At the end of the block, the top-1 of each head, "top1_class" and "top1_distillation"; empty for other networks.

    Within the block the network answers the images of `labels`, each once and in their order, or, where several
    processes work `together`, every so-many-th batch of them.
    """
    shares: dict[str, float] = {}
    classifier = getattr(network, "head", None)
    if not isinstance(classifier, TokenClassifier) or classifier.linear_dist is None or labels is None:
        yield shares
        return
    heads = {"top1_class": classifier.linear, "top1_distillation": classifier.linear_dist}
    found: dict[str, list[np.ndarray]] = {name: [] for name in heads}

    def keep(name: str) -> Hook:
        return lambda layer, inputs, scores: found[name].append(scores.detach().float().cpu().numpy())

    with forward_hooks(after=[(layer, keep(name)) for name, layer in heads.items()]):
        yield shares
    for name, own in found.items():
        shares[name] = top1_share(np.concatenate(all_batches(own, together)), np.asarray(labels))
