"""Which phones opened the page and how far they are, from what they ask for."""

from __future__ import annotations

import ipaddress

from mobilevit_sdk.apps.server import Request
from mobilevit_sdk.apps.site import INDEX
from mobilevit_sdk.artifacts.reference import REFERENCE
from mobilevit_sdk.text import one_line

MAX_STEPS = 500  # that are told apart; what comes later is not said
_KINDS = {  # what a user agent holds -> what it is, the first match first
    "iPhone": "an iPhone",
    "iPad": "an iPad",
    "Android": "an Android phone",
    "CrOS": "a Chromebook",
    "Windows": "a browser on Windows",
    "Macintosh": "a browser on macOS",
    "Linux": "a browser on Linux",
}


class Visitors:
    """Turns requests into lines such as `Pixel 8 (192.168.1.7) opened the page`, each of them once."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def line(self, request: Request) -> str | None:
        """What the request says that was not said before; None where that is nothing.

        The page itself is not counted: whoever opens it asks for its parts next, and tells the phone's model then.
        """
        parts = request.path.split("/")
        if request.path in ("", INDEX):
            return None
        what = "opened the page"
        if parts[0] == "artifacts" and parts[-1] == REFERENCE:
            what = f"loaded {parts[1]}"
        step = (request.client, what)
        if step in self._told or len(self._told) >= MAX_STEPS:
            return None
        self._told.add(step)
        return one_line(f"{_name(request)} {what}")


def _name(request: Request) -> str:
    """The phone's model where its browser tells it, else what kind it is; with its address on a network."""
    model = one_line(request.headers.get("sec-ch-ua-model", "").strip('" '), 40)
    agent = request.headers.get("user-agent", "")
    name = model or next((kind for sign, kind in _KINDS.items() if sign in agent), "a browser")
    try:
        is_here = ipaddress.ip_address(request.client).is_loopback
    except ValueError:
        is_here = True
    return name if is_here else f"{name} ({request.client})"
