"""The records of benchmarks/fuzz_readers.py, and the page that is written from them alone."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

_HEAD = """# Fuzzed readers

Written by `python benchmarks/fuzz_readers.py`.

**{executions} files in {minutes} minutes for {readers} of {all} readers: {finds} open.**

These are all readers of files that others may have written. Each ran on what a fuzzer guided by coverage
([atheris](https://github.com/google/atheris), libFuzzer) makes of small valid files. A reader may answer, and the
answer was then used; or raise one of the SDK's errors, in one line. A *find* is anything else: another exception, a
crash, an error of several lines, more than 5 s of computing or 512 MB for a file of less than 1 MB. What reading the
code and replacing each value of valid JSON found beside it is fixed, each with a test. Readers without a number have
not run yet.


"""


class Find(msgspec.Struct, frozen=True):
    """Something that should not be, with the name of the file that does it."""

    kind: str
    what: str
    place: str
    file: str = ""


class Fuzzed(msgspec.Struct, frozen=True):
    """What became of one reader so far."""

    seconds: float = 0.0
    executions: int = 0
    answered: int = 0  # of these: files that are valid in spite of all
    peak_bytes: int = 0  # the most that one file needed
    finds: tuple[Find, ...] = ()


def page(results: Mapping[str, Fuzzed]) -> str:
    """A row for each reader, and the finds that are open."""
    from untrusted_readers import BY_NAME

    finds = sum(len(each.finds) for each in results.values())
    text = _HEAD.format(
        executions=f"{sum(each.executions for each in results.values()):,}",
        minutes=f"{sum(each.seconds for each in results.values()) / 60:,.0f}",
        readers=sum(each.executions > 0 for each in results.values()),
        all=len(results),
        finds=f"{finds} finds are" if finds else "no find is",
    )
    text += "| what is read | by | minutes | files | answered | most memory | finds |\n"
    text += "| --- | --- | ---: | ---: | ---: | ---: | ---: |\n"
    for name, each in results.items():
        reader = BY_NAME[name]
        share = f"{each.answered / each.executions:.1%}" if each.executions else ""
        text += (
            f"| {reader.files} | {reader.functions} | {each.seconds / 60:.1f} | {each.executions:,} | {share} "
            f"| {each.peak_bytes / 1e6:,.0f} MB | {len(each.finds)} |\n"
        )
    lines = [
        f"- {name}: {find.kind}, {find.what} ({find.place})" for name, each in results.items() for find in each.finds
    ]
    return text + ("\n" + "\n".join(lines) + "\n" if lines else "")
