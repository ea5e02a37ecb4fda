"""Fuzz every reader of files that others wrote, guided by coverage, and write docs/measured/fuzzed-readers.md.

    pip install atheris==3.0.0
    python benchmarks/fuzz_readers.py --seconds 600

Each reader of `untrusted_readers.py` runs in a child process on what atheris (libFuzzer) makes of small valid files. It
may answer, and the answer is then used; or raise one of this SDK's errors, in one line. Anything else is a find:
another exception, an error of several lines, an input that takes `SLOW_SECONDS` or `MEMORY_BYTES`, a hang, a death. A
find is kept once for the place that it comes from, with its input in `--out`. Time adds up over runs, so that an
interrupted one resumes with the inputs that it found. Exit code 1 where there are finds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import msgspec
from fuzz_readers_page import Find, Fuzzed, page
from process_memory import forget_peak, peak
from reader_seeds import FOLDER, Seeds
from shared import MEASURED, read_record, tell, write_page, write_record

SLOW_SECONDS = 5.0  # of computing, for a file of less than MAX_INPUT_BYTES
MEMORY_BYTES = 512 << 20  # that reading one may need beyond what the process has
MAX_INPUT_BYTES = 1 << 20
HANG_SECONDS = 120  # on the clock, whatever else the machine does


def main() -> int:
    """Fuzz for the time that is missing, then write the page; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="for each reader, over all runs")
    parser.add_argument("--reader", action="append", help="only this one; may be given again")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="folder of inputs and results")
    parser.add_argument("--page", type=Path, default=MEASURED / "fuzzed-readers.md", help="the page to write")
    parser.add_argument("--only-page", action="store_true", help="of what was measured so far")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ[FOLDER] = str(options.out / "seeds")
    if options.child:
        _fuzz(options.child, options.out / options.child, options.seconds)
    from untrusted_readers import READERS

    for reader in READERS:
        if (not options.reader or reader.name in options.reader) and not options.only_page:
            _run(reader.name, options.out, options.seconds)
    results = {each.name: _result(options.out / each.name) for each in READERS}
    write_page(page(results), options.page)
    return 1 if any(result.finds for result in results.values()) else 0


def _result(folder: Path) -> Fuzzed:
    file = folder / "result.json"
    return read_record(file, Fuzzed) if file.exists() else Fuzzed()


def _run(name: str, out: Path, seconds: float) -> None:
    """Start children until the reader has had its time; what ends one early is a find."""
    folder = out / name
    while (left := seconds - _result(folder).seconds) > 1:
        command = [sys.executable, __file__, "--child", name, "--out", str(out), "--seconds", str(left)]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log").open("wb") as log:
            code = subprocess.run(command, stdout=log, stderr=log).returncode
        if code:
            _add_death(folder, code)
        found = _result(folder)
        tell(f"{name}: {found.executions:,} files in {found.seconds:.0f} s, {len(found.finds)} finds")


def _add_death(folder: Path, code: int) -> None:
    """A hang, a signal, or memory beyond the limit: libFuzzer keeps the input, and says which."""
    log = (folder / "log").read_text(errors="replace").splitlines()
    what = next((line for line in reversed(log) if "ERROR" in line or "SUMMARY" in line), f"exit code {code}")
    result = _result(folder)
    inputs = sorted((folder / "deaths").glob("*"), key=lambda file: file.stat().st_mtime)
    seconds = result.seconds + (1.0 if inputs else 60.0)  # so that one which dies at once comes to an end
    find = Find("death", what[:200], "", inputs[-1].name if inputs else "")
    known = {each.what for each in result.finds}
    finds = result.finds if find.what in known else (*result.finds, find)
    write_record(msgspec.structs.replace(result, finds=finds, seconds=seconds), folder / "result.json")


class _Target:
    """What is called with each input; counts, and keeps what should not be."""

    def __init__(self, name: str, folder: Path, errors: type[Exception]) -> None:
        from untrusted_readers import BY_NAME

        self.reader, self.folder, self.errors = BY_NAME[name], folder, errors
        self.result = _result(folder)
        scratch = Path("/dev/shm" if Path("/dev/shm").is_dir() else folder) / f"fuzz-{os.getpid()}"
        scratch.mkdir()
        self.path = scratch / f"file{self.reader.suffix}"
        self.saved = self.last = time.monotonic()

    def __call__(self, content: bytes) -> None:
        place = self.reader.place
        path = place(self.path, content) if place else self.path
        if place is None:
            path.write_bytes(content)
        before, began = forget_peak(), time.process_time()
        answered, found = False, None
        try:
            self.reader.read(path)
            answered = True
        except self.errors as error:
            if "\n" in str(error):
                found = Find("several lines", *_origin(error))
        except Exception as error:
            found = Find("exception", *_origin(error))
        seconds, grown = time.process_time() - began, peak() - before
        if seconds > SLOW_SECONDS and found is None:
            found = Find("slow", f"{seconds:.0f} s", "")
        if grown > MEMORY_BYTES and found is None:
            found = Find("memory", f"{grown / 1e6:.0f} MB", "")
        self._count(answered, grown, found, content)

    def _count(self, answered: bool, grown: int, found: Find | None, content: bytes) -> None:
        result = msgspec.structs.replace(
            self.result,
            executions=self.result.executions + 1,
            answered=self.result.answered + answered,
            peak_bytes=max(self.result.peak_bytes, grown),
        )
        if found and not any((each.kind, each.place) == (found.kind, found.place) for each in result.finds):
            name = f"find-{len(result.finds)}"
            (self.folder / name).write_bytes(content)
            result = msgspec.structs.replace(result, finds=(*result.finds, msgspec.structs.replace(found, file=name)))
        self.result = result
        now = time.monotonic()
        if found or now - self.saved > 1:
            self.result = msgspec.structs.replace(result, seconds=result.seconds + now - self.last)
            self.saved = self.last = now
            write_record(self.result, self.folder / "result.json")


def _origin(error: Exception) -> tuple[str, str]:
    """What was raised, and the last place of this project that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "mobilevit_" in frame.filename] or frames
    place = f"{Path(own[-1].filename).name}:{own[-1].name}"
    return f"{type(error).__name__}: {error}"[:200], place


def _fuzz(name: str, folder: Path, seconds: float) -> None:
    """In the child: does not return."""
    import atheris

    with atheris.instrument_imports(include=["mobilevit_sdk", "mobilevit_converters", "tarfile", "zipfile"]):
        import untrusted_readers

        from mobilevit_sdk.errors import MobileViTError

        for module in ("checkpoints.load", "data", "parity", "training.state", "artifacts.artifact"):
            __import__(f"mobilevit_sdk.{module}")
    import torch

    torch.set_num_threads(1)
    corpus, deaths = folder / "corpus", folder / "deaths"
    corpus.mkdir(parents=True, exist_ok=True)
    deaths.mkdir(exist_ok=True)
    for number, content in enumerate(untrusted_readers.BY_NAME[name].seeds(Seeds.default())):
        (corpus / f"seed-{number}").write_bytes(content)
    target: Any = _Target(name, folder, MobileViTError)
    flags = {"max_total_time": int(seconds), "timeout": HANG_SECONDS, "rss_limit_mb": 6144, "max_len": MAX_INPUT_BYTES}
    arguments = [*(f"-{flag}={value}" for flag, value in flags.items()), f"-artifact_prefix={deaths}/", str(corpus)]
    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
