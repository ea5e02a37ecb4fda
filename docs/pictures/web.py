"""Pictures of the browser app's screens, for light and for dark pages, in a Chromium as large as a phone:

    python docs/pictures/seaside.py out/seaside
    python docs/pictures/web.py out/demo/mobilevit_xxs-tflite-fp32 out/seaside

The photographs are the two that scikit-learn ships (CC BY 2.0); the detector's picture is drawn by seaside.py.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import sklearn
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
from browser_page import Command, Page, Site, write_site

PHOTOS = Path(sklearn.__file__).parent / "datasets" / "images"
TARGET = Path(__file__).with_name("web")
WIDTH = 620  # pixels


def photo(page: Page) -> None:
    page.choose_photo(PHOTOS / "china.jpg")
    page.classes("photo")
    page.wait("!document.querySelector('#panel-photo [role=status]').textContent")
    page.evaluate("scrollTo(0, 1000)")


def camera(page: Page) -> None:
    page.fake_camera(PHOTOS / "flower.jpg")
    page.click("#tab-camera")
    page.press("Start the camera")
    page.classes("camera")
    page.wait("document.querySelector('#panel-camera video').videoWidth > 0")
    page.evaluate("scrollTo(0, 1000)")


def verify(page: Page) -> None:
    page.verify()
    page.evaluate("scrollTo(0, 1000)")


SCREENS: dict[str, Callable[[Page], None]] = {"photo": photo, "camera": camera, "verify": verify}


def detect(seaside: Path, scratch: Path) -> None:
    picture = scratch / "seaside.jpg"
    with Image.open(seaside / "seaside.png") as image:
        image.save(picture, quality=92)
    site = Site(write_site(scratch / "detector", seaside / "detr_resnet50-tflite-fp32"))
    for scheme in ("light", "dark"):
        with Page(site.url(), dark=scheme == "dark") as page:
            page.choose_photo(picture)
            page.classes("photo")
            page.wait("!document.querySelector('#panel-photo [role=status]').textContent")
            page.evaluate("scrollTo(0, 0)")
            save(page.picture(), f"detect-{scheme}")
    site.close()


def main() -> None:
    artifact = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        site = Site(write_site(Path(scratch, "site"), artifact), Command(artifact))
        for scheme in ("light", "dark"):
            for name, act in SCREENS.items():
                with Page(site.url(), dark=scheme == "dark") as page:
                    act(page)
                    save(page.picture(), f"{name}-{scheme}")
        with Page(site.url(), gpu=False, width=360, height=640) as page:
            (Path(scratch) / "notes.jpg").write_text("no picture")
            page.choose_photo(Path(scratch) / "notes.jpg")
            page.error()
            save(page.picture(), "error-light")
        site.close()
        detect(Path(sys.argv[2]), Path(scratch))


def save(picture: bytes, name: str) -> None:
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    small = image.resize((WIDTH, image.height * WIDTH // image.width), Image.Resampling.LANCZOS)
    small.quantize(192, dither=Image.Dither.NONE).save(TARGET / f"{name}.png", optimize=True)


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    main()
