"""What the families in the registry promise; see `tests/support/family_contract.py` for the tests."""

from __future__ import annotations

from functools import partial

from family_contract import FamilyContract
from tiny_networks import FAMILIES, tiny_model

from mobilevit_sdk.models.registry import model_entries


class TestMobileViT(FamilyContract):
    family = "mobilevit"
    network = staticmethod(partial(tiny_model, family))
    parameters = (
        ("mobilevit_xxs", {}, 1_272_024),
        ("mobilevit_xs", {}, 2_317_848),
        ("mobilevit_s", {}, 5_578_632),
    )
    image_sizes = ((32, 32), (36, 52), (33, 71))
    phone_sizes = ((32, 32), (36, 36))
    resized = (4, 4)  # the attention stage sees 1x1, resized to one patch
    stochastic = ("dropout", "attention_dropout", "mlp_dropout", "stochastic_depth", "head_dropout")


class TestMobileViTv2(FamilyContract):
    family = "mobilevitv2"
    network = staticmethod(partial(tiny_model, family))
    parameters = (
        ("mobilevitv2_050", {}, 1_370_593),
        ("mobilevitv2_075", {}, 2_866_009),
        ("mobilevitv2_100", {}, 4_901_841),
        ("mobilevitv2_125", {}, 7_478_089),
        ("mobilevitv2_150", {}, 10_594_753),
        ("mobilevitv2_175", {}, 14_251_833),
        ("mobilevitv2_200", {}, 18_449_329),
    )
    image_sizes = ((4, 4), (32, 32), (36, 44), (33, 71))
    phone_sizes = ((32, 32), (36, 36))
    resized = (4, 4)  # the attention stage sees 1x1, resized to one patch
    stochastic = ("dropout", "attention_dropout", "mlp_dropout")
    attention_of_two_products = False
    exact = 1e-11


class TestTinyViT(FamilyContract):
    family = "tiny_vit"
    network = staticmethod(partial(tiny_model, family))
    parameters = (
        ("tiny_vit_5m_224", {}, 5_392_764),
        ("tiny_vit_11m_224", {}, 10_996_972),
        ("tiny_vit_21m_224", {}, 21_198_568),
        ("tiny_vit_21m_384", {}, 21_230_488),
        ("tiny_vit_21m_512", {}, 21_268_120),
        ("tiny_vit_5m_224", {"num_classes": 21841}, 12_082_725),
        ("tiny_vit_11m_224", {"num_classes": 21841}, 20_354_581),
        ("tiny_vit_21m_224", {"num_classes": 21841}, 33_223_825),
    )
    image_sizes = ((32, 32), (36, 52), (33, 71))
    phone_sizes = ((48, 48), (52, 52), (40, 72), (16, 16))
    resized = (80, 96)
    stochastic = ("mlp_dropout", "stochastic_depth")


class TestEfficientViT(FamilyContract):
    family = "efficientvit"
    network = staticmethod(partial(tiny_model, family, distilled=True))
    parameters = tuple(
        (f"efficientvit_m{i}", options, number)
        for i, numbers in enumerate(
            (
                (2_349_436, 2_542_820, 2_158_366),
                (2_980_560, 3_173_944, 2_789_490),
                (4_187_554, 4_413_002, 3_964_804),
                (6_900_722, 7_222_362, 6_582_932),
                (8_804_228, 9_189_996, 8_423_078),
                (12_473_772, 12_859_540, 12_092_622),
            )
        )
        for options, number in zip(({}, {"distilled": True}, {"num_classes": 10}), numbers, strict=True)
    )
    image_sizes = ((96, 96), (80, 80), (112, 81))  # smaller ones do not fill its windows
    phone_sizes = ((96, 96), (80, 112))
    resized = (32, 32)
    stochastic = ("stochastic_depth",)


class TestViT(FamilyContract):
    family = "vit"
    network = staticmethod(partial(tiny_model, family))
    parameters = (
        ("vit_tiny_patch16_224", {}, 5_717_416),
        ("vit_tiny_patch16_384", {}, 5_790_376),
        ("vit_small_patch32_224", {}, 22_878_952),
        ("vit_small_patch32_384", {}, 22_915_432),
        ("vit_small_patch16_224", {}, 22_050_664),
        ("vit_small_patch16_384", {}, 22_196_584),
        ("vit_base_patch32_224", {}, 88_224_232),
        ("vit_base_patch32_384", {}, 88_297_192),
        ("vit_base_patch16_224", {}, 86_567_656),
        ("vit_base_patch16_384", {}, 86_859_496),
        ("vit_base_patch8_224", {}, 86_576_872),
        # Google's ViT-B/16 of ImageNet-21k: the backbone, a linear of 768 to 768, and 21,843 classes.
        (
            "vit_base_patch16_224",
            {"representation_dim": 768, "num_classes": 21843},
            85_798_656 + 769 * 768 + 769 * 21_843,
        ),
        ("deit_tiny_patch16_224", {}, 5_717_416),
        ("deit_small_patch16_224", {}, 22_050_664),
        ("deit_base_patch16_224", {}, 86_567_656),
        ("deit_base_patch16_384", {}, 86_859_496),
        ("deit_tiny_distilled_patch16_224", {}, 5_910_800),
        ("deit_small_distilled_patch16_224", {}, 22_436_432),
        ("deit_base_distilled_patch16_224", {}, 87_338_192),
        ("deit_base_distilled_patch16_384", {}, 87_630_032),
        ("deit3_small_patch16_224", {}, 22_059_496),
        ("deit3_small_patch16_384", {}, 22_205_416),
        ("deit3_medium_patch16_224", {}, 38_849_512),
        ("deit3_base_patch16_224", {}, 86_585_320),
        ("deit3_base_patch16_384", {}, 86_877_160),
    )
    image_sizes = ((32, 32), (16, 8), (40, 72))
    phone_sizes = ((32, 32), (48, 48), (24, 40))
    resized = (48, 64)
    stochastic = ("dropout", "stochastic_depth")
    exact_sizes = (64, 96)  # of whole patches
    exact_models = (
        "vit_tiny_patch16_224",
        "vit_small_patch32_224",
        "deit_tiny_distilled_patch16_224",
        "deit3_small_patch16_224",
    )


class TestDeepViT(FamilyContract):
    family = "deepvit"
    network = staticmethod(partial(tiny_model, family, representation_dim=12))  # which ViT may have, too
    parameters = (
        ("deepvit_patch16_224_re_attn_16b", {}, 24_426_664),
        ("deepvit_patch16_224_re_attn_24b", {}, 36_261_448),
        ("deepvit_patch16_224_re_attn_32b", {}, 48_096_232),
        ("deepvit_s", {}, 27_312_632),
        ("deepvit_l", {}, 58_883_708),
        ("deepvit_l_384", {}, 59_043_308),
    )
    image_sizes = ((32, 32), (16, 8), (40, 72))
    phone_sizes = ((32, 32), (48, 48), (24, 40))
    resized = (48, 64)
    overfit = (5e-3, 200)  # tanh is slow to let go
    stochastic = ("dropout", "stochastic_depth")
    exact_sizes = (64, 96)  # of whole patches
    exact_models = ("deepvit_patch16_224_re_attn_16b", "deepvit_s")


class TestDearKD(FamilyContract):
    family = "dearkd"
    network = staticmethod(partial(tiny_model, family))
    # DeiT's with a distillation token, and three numbers for each head of eight blocks.
    parameters = (
        ("dearkd_tiny_patch16_224", {}, 5_910_800 + 8 * 12 * 3),
        ("dearkd_small_patch16_224", {}, 22_436_432 + 8 * 12 * 3),
        ("dearkd_base_patch16_224", {}, 87_338_192 + 8 * 16 * 3),
    )
    image_sizes = ((32, 32), (16, 8), (40, 72))
    phone_sizes = ((32, 32), (48, 48), (24, 40))
    resized = (48, 64)
    overfit = (2e-3, 200)  # its attention begins as sharp as a convolution's kernels, and higher rates throw it off
    stochastic = ("dropout", "stochastic_depth")
    exact_sizes = (64, 96)  # of whole patches
    exact_models = ("dearkd_tiny_patch16_224",)


class TestNaViT(FamilyContract):
    family = "navit"
    network = staticmethod(partial(tiny_model, family))
    parameters = (
        ("naflexvit_base_patch16_gap", {}, 86_633_704),
        ("naflexvit_base_patch16_par_gap", {}, 86_633_704),
        ("naflexvit_base_patch16_parfac_gap", {}, 86_461_672),
        ("navit_tiny_patch16", {}, 5_792_832),
        ("navit_small_patch16", {}, 22_423_680),
        ("navit_base_patch16", {}, 88_199_424),
        ("navit_base_patch16_absolute", {}, 88_199_424),
    )
    image_sizes = ((32, 32), (16, 8), (40, 72))
    phone_sizes = ((32, 32), (48, 48), (24, 40))
    resized = (48, 64)
    stochastic = ("dropout", "stochastic_depth")
    exact_sizes = (64, 96)  # of whole patches
    exact_models = ("naflexvit_base_patch16_par_gap", "navit_tiny_patch16")


def test_every_registered_family_is_held_to_the_contract():
    held = {contract.family for contract in FamilyContract.__subclasses__()}
    detectors = {"detr"}  # held to what is theirs in test_detr.py
    assert held == {entry.family for entry in model_entries()} - detectors == set(FAMILIES)
