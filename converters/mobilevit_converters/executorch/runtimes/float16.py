"""Whether this machine's processor has what XNNPACK's float16 kernels need."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # Linux; elsewhere ExecuTorch has wheels for Apple silicon only, which has float16
NEEDS = {  # as /proc/cpuinfo names them
    "x86_64": ("avx2", "f16c", "fma"),  # computes in float32, rounds to float16; AVX512-FP16 computes in float16
    "aarch64": ("fphp", "asimdhp"),
}


def float16_refusal() -> str | None:
    """Why XNNPACK has no float16 kernels for this processor; None where it has, or where nothing tells."""
    needs = NEEDS.get(platform.machine(), ())
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), None)
    missing = [name for name in needs if flags is not None and name not in flags]
    return f"this processor lacks {', '.join(missing)}, which XNNPACK's float16 kernels need" if missing else None
