"""Options that say how the images of a command are read, the same in every command that reads some."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import click

from mobilevit_sdk.cli.common import log, print_notes
from mobilevit_sdk.cli.display import Display
from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.files import Address, is_address

if TYPE_CHECKING:
    from mobilevit_sdk.data import ClassOrder, ImageDataset

DATA_HELP = "Folder of class folders, Parquet file, COCO JSON file, or pattern or URL of Parquet or tar files."


class DataSource(click.ParamType):
    """A path, or an address: a pattern of files, or a URL that fsspec knows."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | Address:
        """As `open_dataset` takes it."""
        return Address(value) if is_address(value) and not Path(value).exists() else Path(value)


F = TypeVar("F", bound=Callable[..., int | None])


class OpenImages(Protocol):
    """Open images with the options of the command, check that they decode, and print what was left out.

    `limit` takes only that many of them, spread evenly. None stays None.
    """

    @overload
    def __call__(self, source: None, *, labeled: bool = False, limit: int | None = None) -> None: ...
    @overload
    def __call__(self, source: Path | Address, *, labeled: bool = False, limit: int | None = None) -> ImageDataset: ...


def data_options(*, labels: bool = True) -> Callable[[F], Callable[..., int | None]]:
    """Give a command --skip-broken, --pictures and, where labels matter, --class-order; it takes `open_images`."""

    def decorate(function: F) -> Callable[..., int | None]:
        @functools.wraps(function)
        def run(
            *args: Any,
            skip_broken: bool,
            pictures: Path | None,
            class_order: ClassOrder | None = None,
            **kwargs: Any,
        ) -> int | None:
            if pictures:
                _check_coco_given(kwargs.values())

            def open_images(
                source: Path | Address | None, *, labeled: bool = False, limit: int | None = None
            ) -> ImageDataset | None:
                from mobilevit_sdk.data import coco_file, open_dataset

                if source is None:
                    return None
                dataset = open_dataset(
                    source,
                    labeled=labeled,
                    class_order=class_order,
                    skip_broken=skip_broken,
                    pictures=pictures if isinstance(source, Path) and coco_file(source) else None,
                )
                with Display(log) as display:
                    checked = dataset.sample(limit or len(dataset)).checked(display)
                print_notes(checked.notes)
                return checked

            return function(*args, open_images=open_images, **kwargs)

        run = click.option(
            "--pictures",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Folder of the pictures that a COCO JSON names.  [default: its own]",
        )(run)
        run = click.option(
            "--skip-broken", is_flag=True, help="Leave out images that cannot be decoded, and name them."
        )(run)
        if not labels:
            return run
        return click.option(
            "--class-order",
            type=click.Choice(["lexicographic", "natural"]),
            help="Order of class folders for a head without labels; natural: 1, 2, 10.  [default: lexicographic]",
        )(run)

    return decorate


def _check_coco_given(arguments: Iterable[object]) -> None:
    """Raise RequestError where no argument of the command is a COCO JSON, to which --pictures belongs."""
    from mobilevit_sdk.data import coco_file

    if not any(isinstance(each, Path) and coco_file(each) for each in arguments):
        raise RequestError("--pictures is the folder of the pictures that a COCO JSON names, and no COCO JSON is given")
