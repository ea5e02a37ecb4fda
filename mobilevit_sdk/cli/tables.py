"""Tables on a terminal of any width: what does not fit is laid out differently or left out, and never shortened."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mobilevit_sdk.text import printable

GAP = 2  # columns between cells, and before what stands beneath a name
MIN_PROSE = 32  # columns in which sentences can still be read


class Table:
    """Rows of short cells. Where they fit, a row is a line.

    Where they do not, the cell of the column `name` has a line of its own, once for rows in succession that share it,
    and the others stand beneath, without the columns `drops`, as many of them as it takes, the first one first. `left`
    are aligned left. The last column, if it is `prose`, holds sentences, which wrap at spaces. Off a terminal every row
    is a line.
    """

    def __init__(
        self, *columns: str, name: str, left: Sequence[str] = (), drops: Sequence[str] = (), prose: bool = False
    ) -> None:
        self._columns = columns
        self._name = columns.index(name)
        self._left = {columns.index(each) for each in (name, *left)}
        self._drops = [columns.index(each) for each in drops]
        self._prose = len(columns) - 1 if prose else None
        self._rows: list[tuple[list[Text], str]] = []

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """Add a row, without cells an empty line; strings are not markup, and may come from untrusted files."""
        texts = [cell if isinstance(cell, Text) else Text(printable(cell)) for cell in cells]
        self._rows.append((texts + [Text()] * (len(self._columns) - len(texts)) if texts else [], style))

    def print(self, console: Console) -> None:
        """Print the table as wide as the terminal allows."""
        rows = [row for row, _ in self._rows if row]
        self._widths = [
            max(cell_len(title), *(row[index].cell_len for row in rows), 0) for index, title in enumerate(self._columns)
        ]
        for line in self._lines(terminal_width(console)):
            line.rstrip()
            console.print(line, soft_wrap=True)

    def _lines(self, width: int | None) -> Iterable[Text]:
        shown = list(range(len(self._columns)))
        heads = [Text(title) for title in self._columns]
        if width is None or self._width(shown) <= width:
            for cells, style in ((heads, "bold"), *self._rows):
                yield from self._row(cells, style, shown, 0, width) if cells else [Text()]
            return
        shown.remove(self._name)
        drops = [index for index in self._drops if index in shown]
        while drops and GAP + self._width(shown) > width:
            shown.remove(drops.pop(0))
        last = None
        for cells, style in ((heads, "bold"), *self._rows):
            if cells and cells[self._name] != last:
                last = cells[self._name]
                if last:
                    yield Text(last.plain, style)
            yield from self._row(cells, style, shown, GAP, width) if cells else [Text()]

    def _width(self, shown: Sequence[int]) -> int:
        """Columns that a line takes in which these cells stand side by side."""
        widths = [MIN_PROSE if index == self._prose else self._widths[index] for index in shown]
        return sum(widths) + GAP * (len(widths) - 1)

    def _row(
        self, cells: Sequence[Text], style: str, shown: Sequence[int], indent: int, width: int | None
    ) -> list[Text]:
        line = Text(" " * indent, style)
        for index in shown:
            if index == self._prose:
                continue
            padding = " " * (self._widths[index] - cells[index].cell_len)
            parts = (cells[index], padding) if index in self._left else (padding, cells[index])
            line = Text.assemble(line, *parts, " " * GAP, style=style)
        if self._prose not in shown:
            return [line]
        return hung(line, cells[-1], width)


def print_pairs(console: Console, pairs: Iterable[tuple[str, str]]) -> None:
    """Print names, in bold, and values, which may come from untrusted files, beside them; they wrap at spaces."""
    rows = list(pairs)
    longest = max(len(name) for name, _ in rows)
    for name, value in rows:
        start = Text.assemble((name.ljust(longest + GAP), "bold"))
        for line in hung(start, Text(printable(value)), terminal_width(console)):
            line.rstrip()
            console.print(line, soft_wrap=True)


def hung(start: Text, prose: Text, width: int | None) -> list[Text]:
    """`prose` after `start`, its further lines beneath its first; beneath `start` where too little room is left."""
    if width is None:
        return [Text.assemble(start, prose)]
    indent = start.cell_len
    lines: list[Text] = []
    if width - indent < MIN_PROSE and prose:
        lines, indent = [start], 2 * GAP
        start = Text(" " * indent)
    first, *further = wrap(prose, width - indent)
    return [*lines, Text.assemble(start, first), *(Text.assemble(" " * indent, each) for each in further)]


def wrap(text: Text, width: int) -> list[Text]:
    """The lines of `text`, broken at spaces alone: a longer word, such as a path, is whole on a line of its own."""
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        breaks = [0]
        for word in re.finditer(r"\S+", line.plain):
            if cell_len(line.plain[breaks[-1] : word.end()]) > width and line.plain[breaks[-1] : word.start()].strip():
                breaks.append(word.start())
        lines += line.divide(breaks[1:])
    for line in lines:
        line.rstrip()
    return lines or [text]


def terminal_width(console: Console) -> int | None:
    """Columns of the terminal that `console` writes to; None where it writes to something else."""
    return console.width if console.file.isatty() else None
