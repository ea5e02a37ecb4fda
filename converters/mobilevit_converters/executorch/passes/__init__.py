"""Passes over the graph that ExecuTorch lowers to XNNPACK, in four kinds.

What the answers depend on (`lowering.CORRECTIONS`): `dynamic_input_layout` and `separate_ranges`. Files of int8-dynamic
and int4-weight have inputs that are quantized at run time, which ExecuTorch 1.5 lowers wrongly without these two. No
other precision needs them.

What changes no answer (`lowering.OPTIMIZATIONS`): `fast_lowering` saves time while converting, with the same file byte
for byte; `transpose_elimination` and `partitioner` save time on the phone, with the same operators in another
arrangement.

What makes another precision: `half_precision`, which computes in float16.

What replaces nothing of ExecuTorch: `graph_rewrites`, which edits our own exported graph before it is quantized.

The first three kinds replace private methods of ExecuTorch 1.5. `lowering` applies them behind one guard: with another
version, or where one of the methods is missing, ExecuTorch's stock lowering is used, with a warning. The file is
still correct then; precisions that need a correction are refused.
"""
