"""The records of benchmarks/killed_commands.py, and the page that is written from them alone."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

_HEAD = """# Killed commands

Written by `python benchmarks/killed_commands.py`.

**{kills} kills in {rounds} runs: {problems}.**

`kill -9` ends a command at a random moment; the same command is started again in the same folder, and killed again,
until it ends by itself. After each kill, every file under its final name was read to its end: none was half written. In
the end, all weights, artifacts, labels, recipes and reports were compared with those of a run that nobody disturbed, to
the bit but for times and charts, and no other file was left.

"""


class Kill(msgspec.Struct, frozen=True):
    """When it came, in seconds after the start, and how many whole files stood there."""

    seconds: float
    files: int


class Round(msgspec.Struct, frozen=True):
    """A run that was killed until it ended by itself."""

    command: str
    kills: tuple[Kill, ...]
    problems: tuple[str, ...]


class Crowd(msgspec.Struct, frozen=True):
    """Conversions at once into one folder."""

    processes: int
    seconds: float
    problems: tuple[str, ...]


def page(rounds: Sequence[Round], crowds: Sequence[Crowd]) -> str:
    """A row for each command, and what went wrong."""
    problems = sum(len(each.problems) for each in rounds)
    text = _HEAD.format(
        kills=sum(len(each.kills) for each in rounds),
        rounds=len(rounds),
        problems=f"{problems} problems" if problems else "all ended as an undisturbed one does",
    )
    text += "| command | runs | kills | at, in seconds after the start | with files there | problems |\n"
    text += "| --- | ---: | ---: | ---: | ---: | ---: |\n"
    for name in dict.fromkeys(each.command for each in rounds):
        own = [each for each in rounds if each.command == name]
        kills = [kill for each in own for kill in each.kills]
        if not kills:
            continue
        moments = [kill.seconds for kill in kills]
        text += (
            f"| `{name}` | {len(own)} | {len(kills)} | {min(moments):.1f} to {max(moments):.1f} "
            f"| {sum(kill.files > 0 for kill in kills)} | {sum(len(each.problems) for each in own)} |\n"
        )
    for crowd in crowds:
        end = "; ".join(crowd.problems) or "all ended well, and the folder is that of one conversion alone, to the bit"
        text += f"\n{crowd.processes} conversions at once into one folder, {crowd.seconds:.0f} s: {end}.\n"
    lines = [f"- {each.command}: {problem}" for each in rounds for problem in each.problems]
    return text + ("\n" + "\n".join(lines) + "\n" if lines else "")
