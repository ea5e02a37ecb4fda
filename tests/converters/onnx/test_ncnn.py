"""What the guide says of ncnn: pnnx takes the float32 file of every family, and ncnn then answers alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import sampled
from phone_files import SharedFiles
from tiny_networks import FAMILIES, PATCHES

from mobilevit_sdk.formats.converter import find_converter

for package in ("pnnx", "ncnn"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install {package}")


@pytest.mark.parametrize("family", sampled(FAMILIES, "mobilevit"))
def test_ncnn_answers_as_onnxruntime_does(family: str, phone_files: SharedFiles, tmp_path: Path, request):
    if family in PATCHES:
        reason = "ncnn crashes on what pnnx makes of a ViT, and pnnx leaves reshapes of NaViT out"
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    file = phone_files.file("onnx", "fp32", family)
    (tmp_path / "m.onnx").write_bytes(file.path.read_bytes())
    height, width = file.spec.preprocessing.image_size
    given = [str(tmp_path / "m.onnx"), f"inputshape=[1,3,{height},{width}]", "fp16=0"]
    start = [sys.executable, "-c", "import pnnx, sys; sys.exit(pnnx.pnnx())"]
    done = subprocess.run([*start, *given], capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ignore" not in done.stderr + done.stdout  # it names so the operators that it leaves out
    images = [case.image for case in file.reference.cases[:6]]
    answer = find_converter("onnx").runtimes[0].load(file.path)
    expected = np.stack([answer(image) for image in images])
    difference = np.stack(ncnn_answers(tmp_path, images)) - expected
    assert 10 * np.log10((expected**2).sum() / (difference**2).sum()) > 100


def ncnn_answers(folder: Path, images: list[np.ndarray]) -> list[np.ndarray]:
    """In another process: a native parser that crashes is a failed test and not the end of the run."""
    np.save(folder / "images.npy", np.stack(images).astype(np.float32) / np.float32(255))
    program = (
        "import ncnn, numpy as np\n"
        "network = ncnn.Net()\n"
        "for name in ('fp16_packed', 'fp16_storage', 'fp16_arithmetic'):\n"
        "    setattr(network.opt, f'use_{name}', False)\n"
        "network.opt.use_vulkan_compute, network.opt.num_threads = False, 1\n"
        "assert network.load_param('m.ncnn.param') == network.load_model('m.ncnn.bin') == 0\n"
        "answers = []\n"
        "for image in np.load('images.npy'):\n"
        "    extractor = network.create_extractor()\n"
        "    extractor.input('in0', ncnn.Mat(image))\n"
        "    answers.append(np.array(extractor.extract('out0')[1]).ravel())\n"
        "np.save('answers.npy', np.stack(answers))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300, cwd=folder, capture_output=True)
    return list(np.load(folder / "answers.npy"))
