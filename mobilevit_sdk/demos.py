"""Where the sources of the demo apps are: in a clone at its top, in an installed package inside of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mobilevit_sdk.errors import RequestError

Demo = Literal["web_demo", "android_demo", "ios_demo"]

_PACKAGE = Path(__file__).parent


def demo_folder(name: Demo) -> Path:
    """The folder with an app's sources. Raises RequestError where the installed package lacks it."""
    for folder in (_PACKAGE / "_demos" / name, _PACKAGE.parent / name):
        if (folder / "README.md").is_file():
            return folder
    raise RequestError(f"{_PACKAGE} lacks the sources of {name}; install mobilevit-sdk again, or use a clone")
