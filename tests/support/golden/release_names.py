"""Names of tensors, of every kind, that the code of releases without a package gives."""

from __future__ import annotations

NAMES = {
    ("mobilevit", "ml-cvnets"): """
        conv_1.block.conv.weight layer_1.0.block.exp_1x1.block.conv.weight
        layer_2.2.block.conv_3x3.block.norm.running_mean layer_5.0.block.red_1x1.block.norm.weight
        layer_3.1.local_rep.conv_3x3.block.conv.weight layer_3.1.local_rep.conv_1x1.block.conv.weight
        layer_4.1.global_rep.3.pre_norm_mha.0.weight layer_4.1.global_rep.3.pre_norm_mha.1.qkv_proj.weight
        layer_4.1.global_rep.0.pre_norm_ffn.4.bias layer_3.1.global_rep.2.weight layer_5.1.conv_proj.block.norm.bias
        layer_5.1.fusion.block.conv.weight conv_1x1_exp.block.conv.weight classifier.fc.bias
        """,
    ("mobilevitv2", "ml-cvnets"): """
        conv_1.block.norm.num_batches_tracked layer_2.1.block.exp_1x1.block.conv.weight
        layer_3.0.block.conv_3x3.block.norm.running_var layer_3.1.local_rep.0.block.norm.weight
        layer_3.1.local_rep.1.block.conv.weight layer_3.1.global_rep.0.pre_norm_attn.0.bias
        layer_4.1.global_rep.3.pre_norm_attn.1.qkv_proj.block.conv.weight
        layer_5.1.global_rep.2.pre_norm_attn.1.out_proj.block.conv.bias
        layer_3.1.global_rep.1.pre_norm_ffn.1.block.conv.weight layer_3.1.global_rep.1.pre_norm_ffn.3.block.conv.bias
        layer_3.1.global_rep.2.weight layer_4.1.global_rep.4.bias layer_5.1.global_rep.3.weight
        layer_5.1.conv_proj.block.norm.running_mean classifier.1.weight
        """,
    ("tiny_vit", "cream"): """
        patch_embed.seq.0.c.weight patch_embed.seq.2.bn.running_mean layers.0.blocks.1.conv3.c.weight
        layers.0.downsample.conv1.c.weight layers.2.downsample.conv3.bn.bias layers.1.blocks.0.attn.norm.weight
        layers.2.blocks.5.attn.attention_biases layers.3.blocks.0.attn.qkv.weight layers.3.blocks.1.attn.proj.bias
        layers.3.blocks.1.local_conv.c.weight layers.3.blocks.1.mlp.norm.bias layers.2.blocks.4.mlp.fc2.weight
        norm_head.weight head.bias
        """,
    ("efficientvit", "cream"): """
        patch_embed.0.c.weight patch_embed.6.bn.weight blocks1.0.dw0.m.c.weight blocks1.0.ffn1.m.pw2.bn.bias
        blocks2.0.0.m.c.weight blocks2.0.1.m.pw1.c.weight blocks2.1.conv2.c.weight blocks2.1.se.fc1.bias
        blocks3.2.0.m.bn.running_var blocks2.4.mixer.m.attn.attention_biases blocks3.5.mixer.m.attn.qkvs.3.c.weight
        blocks3.3.mixer.m.attn.dws.0.bn.weight blocks1.0.mixer.m.attn.proj.1.c.weight head.bn.running_mean head.l.weight
        """,
}
