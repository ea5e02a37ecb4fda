"""The pictures of docs/guides/android.md, from the screens that the app's tests draw.

mvn --file android_demo/pom.xml --projects app --also-make test -Dphoto=$PWD/flower.jpg
python docs/pictures/android.py android_demo/app/target/screens
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

FOLDER = Path(__file__).parent / "android"
SCREENS = ("main", "verify-done", "artifacts")
HEIGHT, GAP, RADIUS = 760, 24, 28


def screen(path: Path) -> Image.Image:
    """One screen with a phone's round corners."""
    picture = Image.open(path).convert("RGBA")
    picture = picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT), Image.Resampling.LANCZOS)
    corners = Image.new("L", picture.size, 0)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, picture.width - 1, HEIGHT - 1), RADIUS, fill=255)
    picture.putalpha(corners)
    ImageDraw.Draw(picture).rounded_rectangle((0, 0, picture.width - 1, HEIGHT - 1), RADIUS, outline="#8A93A0", width=2)
    return picture


def main(folder: Path) -> None:
    for theme in ("light", "dark"):
        screens = [screen(folder / f"{name}-{theme}.png") for name in SCREENS]
        width = sum(each.width for each in screens) + GAP * (len(screens) - 1)
        row = Image.new("RGBA", (width, HEIGHT))
        left = 0
        for each in screens:
            row.paste(each, (left, 0))
            left += each.width + GAP
        row.save(FOLDER / f"screens-{theme}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
