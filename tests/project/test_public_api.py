"""What `mobilevit_sdk` itself offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mobilevit_sdk


def test_every_public_name_is_a_function_or_a_class_whatever_was_imported_before():
    program = (
        "import inspect, pkgutil, importlib, mobilevit_sdk\n"
        "for module in pkgutil.iter_modules(mobilevit_sdk.__path__):\n"
        "    importlib.import_module(f'mobilevit_sdk.{module.name}')\n"
        "hidden = [name for name in mobilevit_sdk.__all__ if inspect.ismodule(getattr(mobilevit_sdk, name))]\n"
        "assert hidden == [], hidden"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'convrt'"):
        mobilevit_sdk.convrt  # noqa: B018
