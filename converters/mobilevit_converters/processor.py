"""What this machine's processor can do, as Linux tells."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def processor_features() -> frozenset[str] | None:
    """The names that the kernel has for them, such as `avx2` and `fphp`; None where nothing tells."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), None)
    return None if found is None else frozenset(found)
