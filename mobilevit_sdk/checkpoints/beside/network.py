"""Keys that say what the network is, and what each must be for the network that the weights show.

A table maps a key to a function of the network's config and the key's value, which gives the value that the key must
have. Where several values lead to the same network, it gives back the one stated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mobilevit_sdk.checkpoints.beside.keys import Keys, plain, words

Expected = Callable[[Any, Any], Any]  # config of the family, value stated -> value expected
Table = Mapping[str, Expected]


@dataclass(frozen=True)
class Difference:
    """A key that does not describe the network that the weights show."""

    key: str
    stated: Any
    actual: Any

    def __str__(self) -> str:
        return f"{self.key} is {plain(self.stated)}, and the network of these weights has {plain(self.actual)}"


def differences(keys: Keys, table: Table, config: Any) -> list[Difference]:
    """The keys of the table that are stated otherwise than for this network. Raises ValueError for strange values."""
    found = []
    for key, expected in table.items():
        if (stated := keys.take(key, object)) is None:
            continue
        try:
            actual = expected(config, stated)
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
            raise ValueError(f"{key} is {plain(stated)}, which is no value of it") from error
        if _comparable(stated) != _comparable(actual):
            found.append(Difference(key, stated, actual))
    return found


def _comparable(value: Any) -> Any:
    return [_comparable(each) for each in value] if isinstance(value, list | tuple) else value


def _always(*values: Any) -> Expected:
    """The first of these, or whichever of them is stated."""
    return lambda config, stated: next((value for value in values if stated == value), values[0])


def _is(name: str) -> Expected:
    return lambda config, stated: getattr(config, name)


def _side(of: Callable[[Any], int]) -> Expected:
    """A side, which may be stated as two equal ones."""
    return lambda config, stated: [of(config)] * 2 if isinstance(stated, list) else of(config)


def _each_stage(of: Callable[[Any], Any]) -> Expected:
    return lambda config, stated: [of(stage) for stage in config.stages]


def _attending(of: Callable[[Any], Any]) -> Expected:
    return lambda config, stated: [of(stage) for stage in config.stages if stage.dim]


def _divisible(value: float) -> int:
    """The multiple of 8 that is nearest, or the next where that is more than a tenth less: how widths are rounded."""
    nearest = max(8, int(value + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * value else nearest


# Where several values lead to the same widths, the one stated is right.


def _expansion(config: Any, stated: Any) -> Any:
    inputs = [config.stem_channels, *(stage.channels for stage in config.stages[:-1])]
    return (
        stated
        if all(_divisible(round(stated * each)) == config.expansion * each for each in inputs)
        else config.expansion
    )


def _mlp_ratio(config: Any, stated: Any) -> Any:
    ratios = [(stage.dim, stage.mlp_dim) for stage in config.stages if stage.dim]
    return stated if all(int(dim * stated) == mlp for dim, mlp in ratios) else ratios[0][1] / ratios[0][0]


def _width(config: Any, stated: Any) -> Any:
    channels = [stage.channels for stage in config.stages[2:]]
    return stated if [_divisible(each * stated) for each in (256, 384, 512)] == channels else channels[-1] / 512


def _unit_dims(config: Any, stated: Any) -> Any:
    width, dims = config.stages[-1].channels / 512, [stage.dim for stage in config.stages if stage.dim]
    return stated if [_divisible(each * width) for each in stated] == dims else [round(dim / width) for dim in dims]


def _features(config: Any, stated: Any) -> Any:
    """How many channels the classifier reads."""
    if hasattr(config, "stages"):
        return getattr(config, "final_channels", config.stages[-1].channels)
    return config.dim if hasattr(config, "dim") else config.dims[-1]


def _problem(config: Any, stated: Any) -> Any:
    """transformers writes the kind of its loss: what the scores mean. A head of one score is a regression's."""
    known = ("single_label_classification", *(["regression"] if config.num_classes == 1 else []))
    return stated if stated in known else "one class to choose"


def _pool(config: Any, stated: Any) -> Any:
    """What becomes of the map, or of the tokens."""
    known = ("token",) if hasattr(config, "class_position") else ("avg", "fast", "fastavg")
    return stated if stated in known else known[0]


_POOLS = _pool
_SILU = _always("silu", "swish")
_KERNEL = _side(lambda config: 3)

# transformers' config.json, by family: keys that the weights show as well, and keys that nothing else tells.
_MOBILEVITS: Table = {"num_channels": _is("in_channels"), "expand_ratio": _expansion, "conv_kernel_size": _KERNEL}
SHOWN: Mapping[str, Table] = {
    "mobilevit": {
        **_MOBILEVITS,
        "hidden_sizes": _attending(lambda stage: stage.dim),
        "neck_hidden_sizes": lambda config, stated: [
            config.stem_channels,
            *(stage.channels for stage in config.stages),
            config.final_channels,
        ],
        "mlp_ratio": _mlp_ratio,
        "qkv_bias": _always(True),
    },
    "mobilevitv2": {
        **_MOBILEVITS,
        "width_multiplier": _width,
        "base_attn_unit_dims": _unit_dims,
        "n_attn_blocks": _attending(lambda stage: stage.depth),
        "ffn_multiplier": _mlp_ratio,
    },
    "vit": {
        "num_channels": _is("in_channels"),
        "hidden_size": _is("dim"),
        "num_hidden_layers": _is("depth"),
        "intermediate_size": lambda config, stated: config.dim * config.mlp_ratio,
        "patch_size": _side(lambda config: config.patch_size),
        "qkv_bias": _always(True),
    },
    "detr": {
        "num_channels": _is("in_channels"),
        "d_model": _is("dim"),
        "num_queries": _is("num_queries"),
        "encoder_layers": _is("encoder_layers"),
        "decoder_layers": _is("decoder_layers"),
        "encoder_ffn_dim": _is("mlp_dim"),
        "decoder_ffn_dim": _is("mlp_dim"),
        "num_hidden_layers": _is("encoder_layers"),
    },
}
_UNSEEN: Table = {
    "hidden_act": _SILU,
    "patch_size": _side(lambda config: config.patch_size),
    "output_stride": _is("stride"),
    "layer_norm_eps": _is("norm_eps"),
    "problem_type": _problem,
    "pruned_heads": _always({}),
    "quantization_config": _always(None),
    "auto_map": _always(None),
}
UNSEEN: Mapping[str, Table] = {
    "mobilevit": _UNSEEN,
    "mobilevitv2": _UNSEEN,
    "vit": {
        "hidden_act": _always("gelu"),
        **{key: _UNSEEN[key] for key in ("problem_type", "pruned_heads", "quantization_config", "auto_map")},
    },
    "detr": {
        "activation_function": _always("relu"),
        "position_embedding_type": _always("sine"),
        "scale_embedding": _always(False),
        **{key: _UNSEEN[key] for key in ("pruned_heads", "quantization_config", "auto_map")},
    },
}
HEADS = ("num_attention_heads", "encoder_attention_heads", "decoder_attention_heads")
# Of DETR's backbone, in an object of its own: what weights show, and what nothing else tells.
_BACKBONE_SHOWN: Table = {
    "num_channels": _is("in_channels"),
    "depths": _is("backbone_depths"),
    "embedding_size": _is("backbone_width"),
    "hidden_sizes": lambda config, stated: [4 * config.backbone_width * 2**stage for stage in range(4)],
}
_BACKBONE_UNSEEN: Table = {
    "hidden_act": _always("relu"),
    "layer_type": _always("bottleneck"),
    "downsample_in_first_stage": _always(False),
    "downsample_in_bottleneck": _always(False),
    "model_type": _always("resnet", "timm_backbone"),
}
_DEPTHS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3)}


def read_dilation(config: Keys, typed: Any) -> bool | None:
    """Whether a detector's `config.json` dilates the backbone's last stage; None where it does not say.

    Raises ValueError for a backbone that these weights are not of, and for two answers.
    """
    found = {"dilation": config.take("dilation", bool)}
    names = [config.take("backbone", str)]
    for key in ("backbone_config", "backbone_kwargs"):
        backbone = config.inside(key)
        wrong = [*differences(backbone, _BACKBONE_SHOWN, typed), *differences(backbone, _BACKBONE_UNSEEN, typed)]
        if wrong:
            raise ValueError(f"{key}: {'; '.join(map(str, wrong))}")
        names.append(backbone.take("backbone", str))
        stride = backbone.take("output_stride", int)
        if stride not in (None, 16, 32):
            raise ValueError(f"output_stride of {key} is {stride}, expected 16 or 32")
        found[f"output_stride of {key}"] = None if stride is None else stride == 16
    for name in filter(None, names):
        size = re.search(r"resnet-?(\d+)", name)
        if size is None or _DEPTHS.get(size[1]) != tuple(typed.backbone_depths):
            raise ValueError(f"backbone is {plain(name)}, and that of these weights has {plain(typed.backbone_depths)}")
    stated = {key: value for key, value in found.items() if value is not None}
    if len(set(stated.values())) > 1:
        raise ValueError(f"{' and '.join(stated)} do not agree on whether the backbone is dilated")
    return next(iter(stated.values()), None)


MODEL_TYPES = {"deit": "vit"}  # transformers' name -> the family's, where they differ
# Of config.json: what is read elsewhere or follows from it; of training and of heads that are not classifiers; of the
# file, and of what callers get beside the scores; of language models, in files of older versions.
HARMLESS = words(
    """model_type architecture pretrained_cfg label_descriptions license

    hidden_dropout_prob attention_probs_dropout_prob classifier_dropout_prob attn_dropout ffn_dropout initializer_range
    encoder_stride pooler_act pooler_output_size

    dropout attention_dropout activation_dropout encoder_layerdrop decoder_layerdrop init_std init_xavier_std
    auxiliary_loss bbox_cost class_cost giou_cost bbox_loss_coefficient giou_loss_coefficient mask_loss_coefficient
    dice_loss_coefficient eos_coefficient max_position_embeddings use_timm_backbone use_pretrained_backbone

    aspp_out_channels aspp_dropout_prob atrous_rates semantic_loss_ignore_index do_pooling

    _name_or_path name_or_path architectures transformers_version torch_dtype dtype use_cache output_attentions
    output_hidden_states return_dict use_return_dict torchscript attn_implementation _attn_implementation
    _attn_implementation_autoset finetuning_task

    is_encoder_decoder is_decoder add_cross_attention tie_encoder_decoder tie_word_embeddings
    cross_attention_hidden_size chunk_size_feed_forward use_bfloat16 tf_legacy_loss bos_token_id eos_token_id
    pad_token_id sep_token_id decoder_start_token_id tokenizer_class prefix task_specific_params"""
)

# timm's config.json, and its model_args, with which the network was built.
TIMM_SHOWN: Table = {"num_features": _features}
TIMM: Table = {"global_pool": _POOLS, "problem_type": _UNSEEN["problem_type"]}
_ARGS_SHOWN: Table = {"in_chans": _is("in_channels")}
_VIT_ARGS: Table = {
    **_ARGS_SHOWN,
    "patch_size": _side(lambda config: config.patch_size),
    "embed_dim": _is("dim"),
    "depth": _is("depth"),
    "mlp_ratio": _is("mlp_ratio"),
    "class_token": _always(True),
    "no_embed_class": lambda config, stated: not config.class_position,
    "init_values": lambda config, stated: stated if config.layer_scale else 0,
    "qkv_bias": _always(True),
}
_NAVIT_ARGS: Table = {
    **_ARGS_SHOWN,
    "patch_size": _side(lambda config: config.patch_size),
    "embed_dim": _is("dim"),
    "depth": _is("depth"),
    "mlp_ratio": _is("mlp_ratio"),
    "init_values": lambda config, stated: stated if config.layer_scale else 0,
    "class_token": _always(False),
    "reg_tokens": _is("registers"),
    "pos_embed": lambda config, stated: "learned" if config.positions == "grid" else "factorized",
    "pos_embed_grid_size": _side(lambda config: config.position_length),
    "qkv_bias": _is("biases"),
}
ARGS_SHOWN: Mapping[str, Table] = {
    "mobilevit": _ARGS_SHOWN,
    "mobilevitv2": _ARGS_SHOWN,
    "tiny_vit": {
        **_ARGS_SHOWN,
        "embed_dims": _is("dims"),
        "depths": _is("depths"),
        # The first stage is convolutional: what stands there is not used.
        "num_heads": lambda config, stated: [stated[0], *(dim // config.head_dim for dim in config.dims[1:])],
        "window_sizes": lambda config, stated: [stated[0], *config.window_sizes],
        "mlp_ratio": _is("mlp_ratio"),
        "mbconv_expand_ratio": _is("expansion"),
        "local_conv_size": _always(3),
    },
    "efficientvit": {
        **_ARGS_SHOWN,
        "embed_dim": _each_stage(lambda stage: stage.channels),
        "depth": _each_stage(lambda stage: stage.blocks),
        "num_heads": _each_stage(lambda stage: stage.num_heads),
        "key_dim": lambda config, stated: [config.key_dim] * len(config.stages),
        "kernels": _is("kernels"),
        # They are cut to the maps of an image, so the largest tells.
        "window_size": lambda config, stated: [config.max_window_size] * len(config.stages),
    },
    "vit": _VIT_ARGS,
    "navit": _NAVIT_ARGS,
}
_ARGS_UNSEEN: Table = {"global_pool": _POOLS, "features_only": _always(False)}
_BYOB: Table = {**_ARGS_UNSEEN, "output_stride": _is("stride"), "act_layer": _SILU}
ARGS_UNSEEN: Mapping[str, Table] = {
    "mobilevit": _BYOB,
    "mobilevitv2": _BYOB,
    "tiny_vit": {**_ARGS_UNSEEN, "act_layer": _always("gelu")},
    "efficientvit": _ARGS_UNSEEN,
    "vit": {
        **_ARGS_UNSEEN,
        "num_heads": _is("num_heads"),
        "act_layer": _always("gelu"),
        "pre_norm": _always(False),
        "qk_norm": _always(False),
        "fc_norm": _always(False),
        "reg_tokens": _always(0),
    },
    "navit": {
        **_ARGS_UNSEEN,
        "num_heads": _is("num_heads"),
        "pos_embed_interp_mode": _always("bicubic"),
        "act_layer": _always("gelu"),
        "pre_norm": _always(False),
        "qk_norm": _always(False),
        "fc_norm": _always(True),
    },
}
# Of training, and of how weights were found.
ARGS_HARMLESS = words(
    """drop_rate drop_path_rate proj_drop_rate drop_block_rate drop_block_size zero_init_last use_checkpoint device
    patch_drop_rate pos_drop_rate attn_drop_rate weight_init dynamic_img_size
    dtype pretrained pretrained_cfg pretrained_cfg_overlay checkpoint_path cache_dir exportable scriptable no_jit"""
)
