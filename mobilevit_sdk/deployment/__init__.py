"""From the reference form of a model to an equivalent graph that a phone's backend takes whole.

Each rewrite is an algebraic identity in a file of its own; the target's record says which of them apply.
"""

from __future__ import annotations

import copy

from torch import nn

from mobilevit_sdk.deployment.batched_depthwise import unbatch_depthwise
from mobilevit_sdk.deployment.cascaded_attention import explicit_cascaded_attention
from mobilevit_sdk.deployment.channels_first import tokens_channels_first
from mobilevit_sdk.deployment.constant_positions import place_positions
from mobilevit_sdk.deployment.constant_query import pool_by_constant_queries
from mobilevit_sdk.deployment.cross_layer_equalization import equalize_channels
from mobilevit_sdk.deployment.decomposed_layer_norm import decompose_layer_norms
from mobilevit_sdk.deployment.explicit_attention import split_attention
from mobilevit_sdk.deployment.first_tokens import answer_first_tokens
from mobilevit_sdk.deployment.fold_batch_norm import fold_batch_norms
from mobilevit_sdk.deployment.fold_classifiers import fold_classifiers
from mobilevit_sdk.deployment.fold_head_mixing import fold_head_mixings
from mobilevit_sdk.deployment.fold_layer_scale import fold_layer_scales
from mobilevit_sdk.deployment.fold_norm_affine import fold_norm_affines
from mobilevit_sdk.deployment.global_norm import global_norms_as_matmuls
from mobilevit_sdk.deployment.input_normalization import fold_input_normalization, input_normalization
from mobilevit_sdk.deployment.join_tasks import join_tasks
from mobilevit_sdk.deployment.map_cascaded_attention import cascaded_attention_on_maps
from mobilevit_sdk.deployment.matmul_layer_norm import layer_norms_as_matmuls
from mobilevit_sdk.deployment.mean_centering import center_residual_streams
from mobilevit_sdk.deployment.merge_projections import merge_projections
from mobilevit_sdk.deployment.padded_max_pool import pad_max_pools
from mobilevit_sdk.deployment.padded_tokens import pad_tokens
from mobilevit_sdk.deployment.phone_graph import InHalf, PhoneGraph, exported
from mobilevit_sdk.deployment.placed_tokens import place_tokens
from mobilevit_sdk.deployment.polynomial_gelu import gelus_as_polynomials
from mobilevit_sdk.deployment.rank4_patches import patches_in_rank4
from mobilevit_sdk.deployment.rank4_windows import windows_in_rank4
from mobilevit_sdk.deployment.remove_dropout import remove_dropout
from mobilevit_sdk.deployment.residual_depthwise import fold_residual_depthwise
from mobilevit_sdk.deployment.residual_scaling import scale_residual_streams
from mobilevit_sdk.deployment.separable_attention_nchw import separable_attention_nchw
from mobilevit_sdk.deployment.static_audit import Finding, audit
from mobilevit_sdk.deployment.targets import TARGETS, Target, find_target
from mobilevit_sdk.deployment.token_classifier import join_token_classifiers
from mobilevit_sdk.spec import ModelSpec

__all__ = ["TARGETS", "Finding", "InHalf", "PhoneGraph", "Target", "audit", "deploy", "exported", "find_target"]


def deploy(model: nn.Module, target: str, spec: ModelSpec, *, quantized: bool = False) -> PhoneGraph:
    """Rewrite `model` into an equivalent graph for inference on `target`, one image at a time, preprocessing included.

    `target` is a name in `TARGETS`; `spec` describes the model, and its preprocessing goes into the graph. The model
    itself is not changed. Shapes: RGB in [0, 1], [1, 3, H, W] -> logits [1, num_classes], with (H, W) =
    `spec.preprocessing.image_size`. The answers equal those of the model on normalized input up to rounding. For
    integers, `quantized` equalizes the channels that share a scale, and skips the rewrites that make weights of very
    different magnitudes share one: a skip connection folded into a kernel is a one among small weights, and the
    deviations of an image's channels may differ. Raises RequestError for an unknown target.
    """
    chosen, preprocessing = find_target(target), spec.preprocessing
    network = copy.deepcopy(model).eval().requires_grad_(False)
    remove_dropout(network)
    place_tokens(network, preprocessing.image_size)
    fold_layer_scales(network)
    if quantized:
        equalize_channels(network)
    fold_batch_norms(network)
    fold_head_mixings(network)
    fold_classifiers(network)
    join_token_classifiers(network)
    if not quantized:
        fold_residual_depthwise(network)
    fold_norm_affines(network, layer_norms=not chosen.norm_affine)
    merge_projections(network)
    if chosen.float16:
        scale_residual_streams(network)
    centered = set() if chosen.layer_norm == "native" else center_residual_streams(network)
    join_tasks(network, preprocessing.image_size)
    answer_first_tokens(network)
    pad_max_pools(network)
    place_positions(network, preprocessing.image_size, chosen)
    if chosen.tokens == "channels-first":
        tokens_channels_first(network)
    split_attention(network, chosen.product_rank, means=chosen.layer_norm == "decomposed")
    pool_by_constant_queries(network, chosen.product_rank)
    if chosen.cascaded_attention == "maps":
        cascaded_attention_on_maps(network)
    explicit_cascaded_attention(network, chosen.product_rank)
    patches_in_rank4(network)
    windows_in_rank4(network)
    if not chosen.batched_convolutions:
        unbatch_depthwise(network, preprocessing.image_size)
    separable_attention_nchw(network, preprocessing.image_size, chosen.product_rank)
    if chosen.layer_norm == "matmul":
        layer_norms_as_matmuls(network, centered)
    elif chosen.layer_norm == "decomposed":
        decompose_layer_norms(network, centered)
    if chosen.global_norm == "matmul":
        global_norms_as_matmuls(network)
    if not chosen.exact_gelu:
        gelus_as_polynomials(network)
    dtype = next(network.parameters()).dtype
    subtract = chosen.input_normalization == "subtraction" and not quantized
    normalization = fold_input_normalization(input_normalization(preprocessing), network, subtract=subtract)
    pad_tokens(network, preprocessing.image_size, channels_first=chosen.tokens == "channels-first")
    return PhoneGraph(preprocessing.image_size, normalization, network).to(dtype).eval().requires_grad_(False)
