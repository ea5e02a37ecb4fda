"""The few blocks that every family is built from. The rewrites in `deployment` know these and no others."""

from mobilevit_sdk.layers.attention import Attention
from mobilevit_sdk.layers.attention_pool import AttentionPool
from mobilevit_sdk.layers.cascaded_attention import CascadedGroupAttention
from mobilevit_sdk.layers.classifier import BatchNormClassifier
from mobilevit_sdk.layers.conv import ConvNormAct
from mobilevit_sdk.layers.cross_attention import CrossAttention
from mobilevit_sdk.layers.head_mixing import HeadMixing
from mobilevit_sdk.layers.inverted_residual import InvertedResidual
from mobilevit_sdk.layers.layer_scale import LayerScale
from mobilevit_sdk.layers.memory import TaskMemory, run_with_tasks
from mobilevit_sdk.layers.mlp import MLP
from mobilevit_sdk.layers.patches import Fold, Unfold
from mobilevit_sdk.layers.position_bias import PositionBias
from mobilevit_sdk.layers.query_key_norm import QueryKeyNorm
from mobilevit_sdk.layers.ragged_tokens import RaggedTokens, own_image_mask, to_patches
from mobilevit_sdk.layers.relative_positions import RelativePositions
from mobilevit_sdk.layers.residual import Residual
from mobilevit_sdk.layers.resnet import Bottleneck, FrozenBatchNorm2d, ResNet
from mobilevit_sdk.layers.separable_attention import SeparableAttention, SeparableTransformer
from mobilevit_sdk.layers.set_transformer import (
    DecoderLayer,
    EncoderLayer,
    ObjectQueries,
    SetTransformer,
    sine_positions,
)
from mobilevit_sdk.layers.squeeze_excite import SqueezeExcite
from mobilevit_sdk.layers.stochastic_depth import StochasticDepth
from mobilevit_sdk.layers.tokens import (
    FirstTokens,
    LastTokens,
    PatchMap,
    PatchTokens,
    PreLogits,
    TokenClassifier,
    TokenMean,
)
from mobilevit_sdk.layers.traits import (
    HasFirstTokens,
    HasInputConvolution,
    HasNoDecay,
    HasNormReaders,
    HasProjectionPairs,
    HasResidualStreams,
    HasSizedTables,
    NormReader,
    ProjectionPair,
    ResidualStream,
)
from mobilevit_sdk.layers.transformer import TransformerBlock
from mobilevit_sdk.layers.window_transformer import WindowTransformer
from mobilevit_sdk.layers.windows import WindowPartition, WindowReverse

__all__ = [
    "MLP",
    "Attention",
    "AttentionPool",
    "BatchNormClassifier",
    "Bottleneck",
    "CascadedGroupAttention",
    "ConvNormAct",
    "CrossAttention",
    "DecoderLayer",
    "EncoderLayer",
    "FirstTokens",
    "Fold",
    "FrozenBatchNorm2d",
    "HasFirstTokens",
    "HasInputConvolution",
    "HasNoDecay",
    "HasNormReaders",
    "HasProjectionPairs",
    "HasResidualStreams",
    "HasSizedTables",
    "HeadMixing",
    "InvertedResidual",
    "LastTokens",
    "LayerScale",
    "NormReader",
    "ObjectQueries",
    "PatchMap",
    "PatchTokens",
    "PositionBias",
    "PreLogits",
    "ProjectionPair",
    "QueryKeyNorm",
    "RaggedTokens",
    "RelativePositions",
    "ResNet",
    "Residual",
    "ResidualStream",
    "SeparableAttention",
    "SeparableTransformer",
    "SetTransformer",
    "SqueezeExcite",
    "StochasticDepth",
    "TaskMemory",
    "TokenClassifier",
    "TokenMean",
    "TransformerBlock",
    "Unfold",
    "WindowPartition",
    "WindowReverse",
    "WindowTransformer",
    "own_image_mask",
    "run_with_tasks",
    "sine_positions",
    "to_patches",
]
