"""Prefixes, wrappers and tensors of training code around a network's names: taken off, left, and said."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from golden.reference import ALL, Weights, release_weights
from helpers import refused
from hypothesis import given
from hypothesis import strategies as st

from mobilevit_sdk.checkpoints.identify import match_release
from mobilevit_sdk.checkpoints.load import load_checkpoint
from mobilevit_sdk.checkpoints.match import Match
from mobilevit_sdk.errors import CheckpointError

# Some of what people call their modules, and names that are parts of the networks' own.
_segments = st.one_of(
    st.sampled_from(
        ["module", "model", "net", "backbone", "timm_model", "_orig_mod", "encoder", "stages", "head", "0"]
    ),
    st.sampled_from(["mobilevit", "classifier", "stem", "layers", "ema", "student", "m"]),
    st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True),
)
_prefixes = st.lists(_segments, max_size=4).map(lambda parts: "".join(f"{part}." for part in parts))
_extras = st.dictionaries(
    st.one_of(
        st.sampled_from(["total_ops", "total_params", "criterion.weight", "n_averaged", "train_acc.tp", "step"]),
        st.sampled_from(["loss_fn.loss_weights", "metrics.f1.confmat", "val_accuracy.correct"]),
    ),
    st.lists(st.integers(0, 3), max_size=2),
    max_size=4,
)


def meta(tensors: Weights) -> Weights:
    return {name: torch.empty(tensor.shape, device="meta") for name, tensor in tensors.items()}


def matched(tensors: Weights) -> Match:
    match = match_release(tensors, None, "file")
    assert match.fits
    assert set(match.names.values()) <= tensors.keys()
    return match


@given(released=st.sampled_from(ALL), prefix=_prefixes, outer=_prefixes, extras=_extras, counted=st.booleans())
def test_any_prefix_is_taken_off_and_said(
    released: tuple[str, str], prefix: str, outer: str, extras: dict[str, list[int]], counted: bool
) -> None:
    """Whatever stands before all of a network's names, and whatever criteria and profilers put beside them."""
    network = meta(release_weights(*released))
    tensors = {outer + prefix + name: tensor for name, tensor in network.items()}
    beside = {outer + name: torch.empty(shape, device="meta") for name, shape in extras.items()}
    modules = {name.rpartition(".")[0] for name in tensors}
    beside |= {f"{name}.total_ops": torch.empty(1, device="meta") for name in modules if counted}
    match, plain = matched(tensors | beside), matched(network)
    assert (match.key_map, match.spec) == (plain.key_map, plain.spec)
    assert {outer + prefix + name for name in plain.names.values()} == set(match.names.values())
    said = " ".join(match.notes)
    for part in (outer + prefix).split("."):
        assert part in said
    assert (f"left {len(beside)} tensor" in said) == bool(beside)


@given(released=st.sampled_from(ALL), data=st.data())
def test_segments_of_torch_s_wrappers_are_taken_out_anywhere(released: tuple[str, str], data: st.DataObject) -> None:
    network = meta(release_weights(*released))
    wrapped = data.draw(st.sampled_from(sorted({name.split(".")[0] for name in network})))
    segment = data.draw(st.sampled_from(["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"]))
    tensors = {
        name.replace(f"{wrapped}.", f"{wrapped}.{segment}.", 1) if name.startswith(f"{wrapped}.") else name: tensor
        for name, tensor in network.items()
    }
    match = matched(tensors)
    assert match.spec == matched(network).spec
    assert set(match.names.values()) == tensors.keys()
    assert "took _orig_mod or its like out of" in match.notes[0]


HEADS = {
    ("mobilevit", "timm"): ("head.fc", ["head.fc.1", "classifier.1", "fc"]),
    ("mobilevit", "transformers"): ("classifier", ["classifier.1", "head"]),
    ("mobilevit", "ml-cvnets"): ("classifier.fc", ["classifier.fc.1", "classifier", "linear"]),
    ("mobilevitv2", "timm"): ("head.fc", ["head.fc.1", "classifier.1", "head"]),
    ("mobilevitv2", "ml-cvnets"): ("classifier.1", ["classifier", "classifier.1.1", "out.proj"]),
    ("tiny_vit", "timm"): ("head.fc", ["head.fc.1", "classifier"]),
    ("tiny_vit", "cream"): ("head", ["head.1", "classifier.1"]),
    ("efficientvit", "timm"): ("head.linear", ["head.linear.1"]),
    ("efficientvit", "cream"): ("head.l", ["head.l.1", "fc"]),
}


def with_head(tensors: Weights, old: str, new: str, prefix: str = "") -> Weights:
    """The network behind `prefix`, and its classifier under a name of its own."""
    return {
        f"{new}.{name.rpartition('.')[2]}" if name.rpartition(".")[0] == old else prefix + name: tensor
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize(
    ("released", "head"), [(released, head) for released, (_, heads) in HEADS.items() for head in heads]
)
@pytest.mark.parametrize("prefix", ["", "net.backbone."])
def test_plain_linear_layers_are_heads(released: tuple[str, str], head: str, prefix: str) -> None:
    network, old = release_weights(*released), HEADS[released][0]
    width = network[f"{old}.weight"].shape[1]
    network |= {f"{old}.weight": torch.empty(7, width), f"{old}.bias": torch.empty(7)}
    tensors = meta(with_head(network, old, head, prefix))
    match = matched(tensors)
    assert (match.is_backbone, match.spec.num_classes) == (False, 7)
    assert match.names[f"{old}.weight"] == f"{head}.weight"
    assert f"took {head} as the classifier ({old})" in match.notes


@pytest.mark.parametrize("change", ["two layers", "no bias", "another width"])
def test_other_heads_are_refused(change: str) -> None:
    network = with_head(release_weights("mobilevit", "timm"), "head.fc", "classifier.0", "net.")
    weight = network["classifier.0.weight"]
    if change == "two layers":
        network |= {"classifier.3.weight": torch.ones(4, len(weight)), "classifier.3.bias": torch.ones(4)}
    elif change == "no bias":
        del network["classifier.0.bias"]
    else:
        network["classifier.0.weight"] = weight[:, 1:]
    with pytest.raises(
        CheckpointError, match=r"nearest to mobilevit_xxs of timm, its names after 'net\.'.*classifier\.0"
    ):
        match_release(meta(network), None, "file")


def test_wrapped_weights_are_those_of_the_file(tmp_path: Path) -> None:
    """A Lightning module with a compiled network, a criterion and a profiler, in either format."""
    network = with_head(release_weights("mobilevit", "timm"), "head.fc", "head.1")
    tensors = {f"model._orig_mod.{name}": tensor for name, tensor in network.items()}
    tensors |= {"criterion.weight": torch.ones(3), "model._orig_mod.stem.total_ops": torch.ones(1)}
    safetensors.torch.save_file(tensors, tmp_path / "wrapped.safetensors")
    torch.save({"state_dict": tensors}, tmp_path / "wrapped.ckpt")
    plain = tmp_path / "plain.pth"
    torch.save(release_weights("mobilevit", "timm"), plain)
    expected = load_checkpoint(plain).model.state_dict()
    for path in (tmp_path / "wrapped.safetensors", tmp_path / "wrapped.ckpt"):
        checkpoint = load_checkpoint(path)
        found = checkpoint.model.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
        assert checkpoint.notes == (
            f"took _orig_mod or its like out of {len(tensors) - 1} names",
            f"took model. off {len(tensors) - 1} names",
            "left 2 tensors of no network: stem.total_ops, criterion.weight",
            "took head.1 as the classifier (head.fc)",
        )


def test_of_two_networks_the_average_is_taken_and_others_are_to_be_chosen(tmp_path: Path) -> None:
    network = release_weights("mobilevit", "timm")
    averaged = {**network, "head.fc.bias": network["head.fc.bias"] + 1}
    for names, wanted in ((("ema_model.", "online_model."), averaged), (("teacher.", "student."), None)):
        path = tmp_path / "two.pth"
        first, second = (
            {prefix + n: t for n, t in held.items()} for prefix, held in zip(names, (averaged, network), strict=True)
        )
        torch.save({**second, **first, "initted": torch.ones(1), "step": torch.ones(1)}, path)
        if wanted is None:
            message = refused(path)
            assert "holds 2 networks, their names after student., teacher.; save the one to use: " in message
        else:
            checkpoint = load_checkpoint(path)
            assert torch.equal(checkpoint.model.get_parameter("head.bias"), averaged["head.fc.bias"])
            assert f"took ema_model., averaged weights (EMA), and left {len(network)} tensors of online_model." in (
                checkpoint.notes
            )


def test_what_stands_beside_a_wrapped_network_is_named_with_its_prefix_and_what_to_type() -> None:
    network = {f"net.{name}": tensor for name, tensor in meta(release_weights("tiny_vit", "cream")).items()}
    beside = {name: torch.empty(3, 3) for name in ("projector.fc.weight", "projector.norm.bias", "net.head.mask")}
    with pytest.raises(CheckpointError) as caught:
        match_release({**network, **beside}, None, "file")
    message = str(caught.value)
    assert "nearest to tiny_vit_5m_224 of cream, its names after 'net.', but does not fit: 3 left over" in message
    assert "leave them out: weights = {n: w for n, w in weights.items() if not " in message
    assert "if not n.startswith(('net.head.mask', 'projector.',))}" in message


@torch.inference_mode()
def test_a_linear_layer_in_place_of_a_norm_and_one_has_a_norm_that_changes_nothing(tmp_path: Path) -> None:
    """EfficientViT's classifier begins with a BatchNorm, which its backbone in timm has not."""
    network = release_weights("efficientvit", "timm")
    path = tmp_path / "plain.pth"
    torch.save(
        with_head({n: t for n, t in network.items() if ".bn." not in n or "head" not in n}, "head.linear", "fc"), path
    )
    checkpoint = load_checkpoint(path)
    assert "head.norm changes nothing: the file has none before its classifier" in checkpoint.notes
    features = torch.randn(2, network["head.linear.weight"].shape[1])
    expected = torch.nn.functional.linear(features, network["head.linear.weight"], network["head.linear.bias"])
    assert torch.allclose(checkpoint.model.get_submodule("head")(features), expected, atol=1e-5)
    torch.save({n: t for n, t in network.items() if n != "head.bn.bias"}, path)
    assert "1 missing (head.bn.bias)" in refused(path)
