"""An address as a QR code that a phone's camera reads from a terminal."""

from __future__ import annotations

from mobilevit_sdk.formats.toolchain import import_optional

QUIET_ZONE = 4  # light modules around the code, as ISO/IEC 18004 asks for
_BLOCKS = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}


def qr_rows(text: str) -> list[str]:
    """The code as lines of half blocks, two modules high each, to be drawn in white on black.

    The blocks are the light modules: a terminal without colors that is dark shows the code as well. An address of the
    local network takes 37 columns and 19 lines.
    """
    segno = import_optional("segno", "segno", extra="phone")
    # The lowest level of error correction: a screen has no stains, and a smaller code has larger modules.
    modules = [list(map(bool, row)) for row in segno.make_qr(text, error="l").matrix_iter(border=QUIET_ZONE)]
    modules += [[False] * len(modules[0])] * (len(modules) % 2)
    rows = zip(modules[::2], modules[1::2], strict=True)
    return ["".join(_BLOCKS[halves] for halves in zip(*pair, strict=True)) for pair in rows]
