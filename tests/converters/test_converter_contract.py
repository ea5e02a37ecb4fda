"""What the converters promise; see `tests/support/converter_contract.py` for the tests."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

from converter_contract import ConverterContract
from mobilevit_converters.executorch.file.program import read_program

from mobilevit_sdk.formats.converter import converters


class TestCoreAI(ConverterContract):
    format, extra = "coreai", "coreai"

    def seal(self, path):
        (path / "main.hash").write_bytes(hashlib.sha256((path / "main.mlirb").read_bytes()).digest())


class TestCoreAIForTheNeuralEngine(TestCoreAI):
    backend = "ane"


class TestCoreML(ConverterContract):
    format, extra = "coreml", "coreml"


class TestCoreMLForTheNeuralEngine(ConverterContract):
    format, backend, extra = "coreml", "ane", "coreml"


class TestTFLite(ConverterContract):
    format, extra = "tflite", "tflite"


class TestExecuTorch(ConverterContract):
    format, extra = "executorch", "executorch"


class TestExecuTorchForCoreML(ConverterContract):
    format, backend, extra = "executorch", "coreml", "coreml"


class TestExecuTorchForCoreAI(ConverterContract):
    format, backend, extra = "executorch", "coreai", "coreai"

    def seal(self, path):
        """The hash of the program stands in the names of its parts, in the delegate, and beside the program."""
        content = path.read_bytes()
        old = re.search(rb"coreai/([0-9a-f]{64})/", content)[1]
        start = content.index(b"ML\xefR")
        size = next(
            segment.size
            for segment in read_program(path).program.segments
            if read_program(path).segments_start + segment.offset == start
        )
        new = hashlib.sha256(content[start : start + size])
        content = content.replace(old, new.hexdigest().encode())
        path.write_bytes(content.replace(bytes.fromhex(old.decode()), new.digest()))


class TestONNX(ConverterContract):
    format = extra = "onnx"


class TestExecuTorchForVulkan(ConverterContract):
    format, backend, extra = "executorch", "vulkan", "executorch"


def test_every_converter_is_held_to_the_contract():
    found = {(c.format, backend) for c in converters().values() for backend in [None, *c.backends]}
    direct = ConverterContract.__subclasses__()
    contracts = [*direct, *(each for contract in direct for each in contract.__subclasses__())]
    held = {(contract.format, contract.backend) for contract in contracts}
    assert found == held | {("executorch", "xnnpack")}  # which is its default


def test_asking_what_is_there_imports_no_toolchain():
    program = (
        "import sys; from mobilevit_sdk.formats.converter import converters\n"
        "for each in converters().values(): each.availability(), [r.availability() for r in each.runtimes]\n"
        "heavy = {'torch', 'coreai', 'coreai_torch', 'coremltools', 'executorch', 'litert_torch', 'ai_edge_litert'}\n"
        "heavy = (heavy | {'onnx', 'onnxruntime'}) & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
