"""ExecuTorch's partitioner for XNNPACK, with operators that XNNPACK takes and ExecuTorch 1.5 does not delegate."""

from __future__ import annotations

from typing import Any

from torch.export import ExportedProgram
from torch.fx.passes.infra.partitioner import Partition

from mobilevit_converters.executorch.toolchain import import_module

_PARTITION = "executorch.backends.xnnpack.partition"
REPLACES = (
    f"{_PARTITION}.xnnpack_partitioner:XnnpackPartitioner.generate_partitions",
    f"{_PARTITION}.xnnpack_partitioner:XnnpackPartitioner.get_matched_nodes_from_configs",
    f"{_PARTITION}.config:ALL_PARTITIONER_CONFIGS",
    f"{_PARTITION}.config.xnnpack_config:ConfigPrecisionType.STATIC_QUANT",
)

IN_INT8_TOO = ("SigmoidConfig", "GeluConfig", "HardswishConfig", "ConstantPadConfig")


CONSTANT = "mobilevit_constant"  # in the meta of an input of a delegate: that it is always the same


def partitioner() -> Any:
    """A partitioner for float graphs and quantized ones.

    Constant operands of sums and elementwise products stay outside and are inputs of the delegate, marked `CONSTANT`:
    XNNPACK packs the weights of products alone, and ExecuTorch 1.5 on phones, where it caches what is packed, frees the
    others too (https://github.com/pytorch/executorch/pull/22779). Nothing is copied at a call.
    """
    module = import_module(f"{_PARTITION}.xnnpack_partitioner")
    configs = import_module(f"{_PARTITION}.config").ALL_PARTITIONER_CONFIGS
    kind = import_module(f"{_PARTITION}.config.xnnpack_config").ConfigPrecisionType
    both = {"supported_precision_types": lambda self: [kind.FP32, kind.STATIC_QUANT]}
    chosen = [type(each.__name__, (each,), both) if each.__name__ in IN_INT8_TOO else each for each in configs]
    part_by_part = module.XnnpackPartitioner.generate_partitions

    def generate_partitions(self: Any, program: ExportedProgram) -> list[Partition]:
        """One partition where every operator is taken; merging in pairs leaves linears that share an input apart."""
        taken = {node for group in self.get_matched_nodes_from_configs(program) for node in group}
        calls = {node for node in program.graph_module.graph.nodes if node.op == "call_function"}
        if calls <= taken:
            for node in program.graph_module.graph.find_nodes(op="placeholder"):
                if node.name not in program.graph_signature.user_inputs:
                    node.meta[CONSTANT] = True
            return [Partition(id=0, nodes=taken)]
        return list(part_by_part(self, program))

    whole = type("WholeGraphPartitioner", (module.XnnpackPartitioner,), {"generate_partitions": generate_partitions})
    return whole(configs=chosen)
