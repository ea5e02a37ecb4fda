"""Whether this machine's processor has what XNNPACK's float16 kernels need."""

from __future__ import annotations

import platform

from mobilevit_converters.processor import processor_features

# As the kernel names them on Linux. Elsewhere ExecuTorch has wheels for Apple silicon only, which has float16.
NEEDS = {
    "x86_64": ("avx2", "f16c", "fma"),  # computes in float32, rounds to float16; AVX512-FP16 computes in float16
    "aarch64": ("fphp", "asimdhp"),
}


def float16_refusal() -> str | None:
    """Why XNNPACK has no float16 kernels for this processor; None where it has, or where nothing tells."""
    features = processor_features()
    missing = [name for name in NEEDS.get(platform.machine(), ()) if features is not None and name not in features]
    return f"this processor lacks {', '.join(missing)}, which XNNPACK's float16 kernels need" if missing else None
