"""The last block for the tokens that are read after it, alone.

Queries, sums, norms and MLPs are computed token by token, and attention answers each query by itself. So the answers
of the first tokens need keys and values of all tokens, and nothing else of the others. ViT reads one token, or two.
"""

from __future__ import annotations

from torch import nn

from mobilevit_sdk.deployment.replace import replace_layers
from mobilevit_sdk.layers import FirstTokens, HasFirstTokens, TransformerBlock


def answer_first_tokens(network: nn.Module) -> None:
    """Let the last block answer only what the network declares to read of it, in place."""
    if not isinstance(network, HasFirstTokens) or (read := network.first_tokens()) is None:
        return
    block, count = read
    if type(block) is TransformerBlock:
        block.attention.num_queries = count
        replace_layers(network, FirstTokens, lambda _: nn.Identity())
