"""Conversions of float16 in hardware, for Apple's runtime on x86-64, which makes them in software.

It multiplies matrices of float16 one number at a time, and spends most of that in two functions of Swift's library, of
some twenty instructions each. Processors since 2012 have one for each (F16C). So the two are compiled, once, by the C
compiler that is here, and loaded before that library, where its callers find them first. Answers keep all their bits,
and a ViT takes a third of the time.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from mobilevit_converters.processor import processor_features
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import cache_folder, replacing

SOURCE = Path(__file__).with_name("half_conversions.c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O2", "-mf16c", "-shared", "-fPIC", "-nostdlib")


def use_hardware_conversions() -> bool:
    """For this process, before it loads Apple's runtime. False where that is slower: no F16C, or no C compiler."""
    try:
        library = compiled()
        if library is None:
            return False
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except (OSError, RequestError, subprocess.CalledProcessError):
        return False
    return True


def compiled() -> Path | None:
    """The two functions as a library in the user's cache folder; None where it would not run, or none compiles it.

    Raises what the compiler and the file system raise.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64" or "f16c" not in (processor_features() or ()):
        return None
    revision = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:8]
    library = cache_folder() / f"half-conversions-{revision}.so"
    if not library.exists():
        compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
        if compiler is None:
            return None
        with replacing(library) as fresh:
            subprocess.run([compiler, *FLAGS, "-o", fresh, SOURCE], check=True, capture_output=True)
    return library
