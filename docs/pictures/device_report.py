"""Picture of the head of a parity report with phones in it, for light and for dark pages, with Chromium:

mobilevit verify out/demo/mobilevit_xxs-tflite-fp32 --device-report FILE --report report
python docs/pictures/device_report.py report/report.html
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT, SCALE = 1000, 940, 2  # CSS pixels, and device pixels for each
SCHEMES = {"dark": 0, "light": 1}  # as Blink numbers them


def main() -> None:
    page = Path(sys.argv[1]).resolve().as_uri()
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("no Chromium or Chrome is installed")
    with tempfile.TemporaryDirectory() as scratch:
        for name, number in SCHEMES.items():
            shot = Path(scratch, f"{name}.png")
            command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            command += [f"--user-data-dir={scratch}/profile", f"--blink-settings=preferredColorScheme={number}"]
            command += [f"--window-size={WIDTH},{HEIGHT}", f"--force-device-scale-factor={SCALE}"]
            subprocess.run([*command, f"--screenshot={shot}", page], check=True, capture_output=True, timeout=120)
            small = Image.open(shot).convert("RGB").quantize(128, dither=Image.Dither.NONE)
            small.save(Path(__file__).with_name(f"device-report-{name}.png"), optimize=True)


if __name__ == "__main__":
    main()
