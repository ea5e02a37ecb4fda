"""The few blocks that every family is built from. The rewrites of `deployment` know these and nothing else."""

from mobilevit_sdk.layers.attention import Attention
from mobilevit_sdk.layers.conv import ConvNormAct
from mobilevit_sdk.layers.mlp import MLP
from mobilevit_sdk.layers.patches import Fold, Unfold
from mobilevit_sdk.layers.stochastic_depth import StochasticDepth
from mobilevit_sdk.layers.transformer import TransformerBlock

__all__ = ["MLP", "Attention", "ConvNormAct", "Fold", "StochasticDepth", "TransformerBlock", "Unfold"]
