"""The reference form of MobileViT."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny_model, tiny_spec

from mobilevit_sdk.checkpoints.create import create_model
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.layers import Fold, StochasticDepth, Unfold
from mobilevit_sdk.models.registry import build_model, model_entries, model_spec


def test_unfold_groups_pixels_by_their_place_in_the_patch():
    image = torch.arange(2 * 4 * 6.0).view(1, 2, 4, 6)
    tokens = Unfold(2)(image)
    assert tokens.shape == (4, 6, 2)
    for place, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        assert torch.equal(tokens[place].T.reshape(2, 2, 3), image[0, :, row::2, column::2])


def test_fold_undoes_unfold():
    x = torch.randn(3, 5, 6, 8)
    assert torch.equal(Fold(2)(Unfold(2)(x), x.shape), x)


def test_sizes_between_patches_are_resized_up_and_back():
    """At 36 pixels the attention stage sees 9x9 and must compute on 10x10: the same as resizing by hand."""
    model, _ = tiny_model()
    block = model.stages[1][1]
    x = torch.randn(1, 12, 9, 9)
    local = block.local_project(block.local_conv(x))
    up = torch.nn.functional.interpolate(local, (10, 10), mode="bilinear", align_corners=False)
    tokens = block.norm(block.transformer(Unfold(2)(up)))
    back = torch.nn.functional.interpolate(Fold(2)(tokens, up.shape), (9, 9), mode="bilinear", align_corners=False)
    expected = block.fuse(torch.cat((x, block.project(back)), 1))
    torch.testing.assert_close(block(x), expected, rtol=0, atol=0)


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = StochasticDepth(0.25, groups=4).train()
    kept = layer(torch.ones(4000, 3, 2)).view(1000, 4, 6)
    assert torch.equal(kept, kept[:, :1, :1].expand_as(kept))  # the four patches of a sample drop together
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert kept.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(layer.eval()(torch.ones(4, 1)), torch.ones(4, 1))


def _fields(spec):
    return {name: getattr(spec, name) for name in spec.__struct_fields__}


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(RequestError, match=r"did you mean .*mobilevit_xxs"):
        create_model("mobilevit_xss")


def test_an_unknown_option_and_a_config_of_another_family_are_refused():
    with pytest.raises(RequestError, match="no option depth"):
        model_spec("mobilevit_xxs", depth=3)
    spec = tiny_spec()
    broken = type(spec)(**{**_fields(spec), "config": {**spec.config, "expansion": "two"}})
    with pytest.raises(RequestError, match="expansion"):
        build_model(broken)


def test_the_listing_holds_every_variant_and_filters_by_family():
    assert {"mobilevit_xxs", "mobilevit_xs", "mobilevit_s"} <= {entry.name for entry in model_entries("mobilevit")}
    with pytest.raises(RequestError, match="unknown family"):
        model_entries("mobilevitt")
