"""A stand-in for adb that replays recorded exchanges, and for the phone at its other end."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Exchange:
    """What adb prints, and with which exit code it ends, when its arguments match the pattern, from the start.

    `times` bounds how often; later exchanges answer then. `post` is the file of a report that the phone posts to the
    address it is given; `file` is what a pull brings. An exchange that `hangs` does not end by itself.
    """

    pattern: str
    prints: str = ""
    code: int = 0
    times: int = 1_000_000
    post: str = ""
    file: str = ""
    hangs: bool = False


_PROGRAM = r"""#!{python} -IS
import json, re, shutil, signal, sys
from pathlib import Path

here, arguments = Path(__file__).parent, sys.argv[1:]
words = " ".join(arguments[2:] if arguments[:1] == ["-s"] else arguments)
with (here / "calls").open("a") as log:
    log.write(words + "\n")
exchanges = json.loads((here / "exchanges.json").read_text())
for exchange in exchanges:
    if exchange["times"] and re.match(exchange["pattern"], words):
        break
else:
    sys.exit(f"adb: no such exchange was recorded: {{words}}")
exchange["times"] -= 1
(here / "exchanges.json").write_text(json.dumps(exchanges))
if exchange["hangs"]:
    signal.alarm(1800)
    signal.pause()
for argument in arguments:
    if argument.startswith("http://"):
        (here / "address").write_text(argument)
if exchange["post"]:
    import urllib.request

    address = (here / "address").read_text()
    headers = {{"Content-Type": "application/json", "Origin": "/".join(address.split("/")[:3])}}
    body = Path(exchange["post"]).read_bytes()
    urllib.request.urlopen(urllib.request.Request(address + "reports", body, headers), timeout=1800).read()
if exchange["file"]:
    shutil.copy(exchange["file"], arguments[-1])
sys.stdout.write(exchange["prints"])
sys.exit(exchange["code"])
"""


class FakeAdb:
    """An executable in a folder of its own; `calls` are the arguments of each run, without the serial number."""

    def __init__(self, folder: Path, *exchanges: Exchange) -> None:
        folder.mkdir()
        self.path = folder / "adb"
        self.path.write_text(_PROGRAM.format(python=sys.executable), encoding="utf-8")
        self.path.chmod(0o755)
        (folder / "exchanges.json").write_text(json.dumps([asdict(each) for each in exchanges]), encoding="utf-8")

    @property
    def calls(self) -> list[str]:
        return (self.path.parent / "calls").read_text(encoding="utf-8").splitlines()


# Recorded, but for the names of phones.
SERIAL = "38231FDJH00AB1"
ONE_PHONE = f"""List of devices attached
{SERIAL}         device usb:1-2 product:shiba model:Pixel_8 device:shiba transport_id:4

"""
GONE = f"adb: device '{SERIAL}' not found\n"
LIST = Exchange("devices -l", ONE_PHONE)
REVERSE = Exchange(r"reverse tcp:\d+ tcp:\d+", "")
REMOVE = Exchange(r"reverse --remove tcp:\d+")
VIEW = r"shell am start -a android.intent.action.VIEW -d http://127.0.0.1:\d+/[\w-]{22}/$"
VIEWED = "Starting: Intent { act=android.intent.action.VIEW dat=http://127.0.0.1:40001/... }\n"
