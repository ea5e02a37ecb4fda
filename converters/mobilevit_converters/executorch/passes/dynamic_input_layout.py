"""Values that are quantized at run time, moved into the layout that their reader wants before their range is taken.

Where a convolution wants a value in another memory order, ExecuTorch 1.5 follows the first arguments back to the very
start of the graph and transposes what it finds there; where a linear does, it transposes the value behind its range,
which XNNPACK then does not take. Here the value itself is transposed, before its range is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.fx import GraphModule, Node

from mobilevit_converters.executorch.passes.replacement import replaced
from mobilevit_converters.executorch.toolchain import import_module

_LAYOUTS = "executorch.backends.xnnpack._passes.channels_last_tagged_reshape_pass"
TO_NHWC = f"{_LAYOUTS}:ChannelsLastTaggedReshapePass.input_to_nhwc"
TO_NCHW = f"{_LAYOUTS}:ChannelsLastTaggedReshapePass.input_to_nchw"
REPLACES = (TO_NHWC, TO_NCHW)


@contextmanager
def dynamic_input_layout() -> Iterator[None]:
    """Within the context, values are transposed where they are quantized."""
    layouts = import_module(_LAYOUTS)
    each = layouts.ChannelsLastTaggedReshapePass

    def before_range(is_moved: Any, mark: Any) -> Any:
        def wrap(move: Any) -> Any:
            def move_before_range(self: Any, module: GraphModule, value: Node, reader: Node) -> None:
                if not layouts.is_dynamic_qdq(value):
                    move(self, module, value, reader)
                elif not is_moved(value):
                    quantize: Any = value.args[0]
                    source, scale = quantize.args[:2]
                    range_ = scale.args[0]
                    move(self, module, source, range_)
                    move(self, module, source, quantize)
                    mark(quantize)
                    mark(value)

            return move_before_range

        return wrap

    to_nhwc = before_range(each.is_nhwc_node, each.mark_as_nhwc_node)
    to_nchw = before_range(each.is_nchw_node, each.mark_as_nchw_node)
    with replaced(TO_NHWC, to_nhwc), replaced(TO_NCHW, to_nchw):
        yield
