"""What `mobilevit_sdk` itself offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mobilevit_sdk


@pytest.mark.parametrize("name", mobilevit_sdk.__all__)
def test_every_public_name_is_a_function_whatever_was_imported_before(name):
    program = (
        "import inspect, pkgutil, importlib, mobilevit_sdk\n"
        "for module in pkgutil.iter_modules(mobilevit_sdk.__path__):\n"
        "    importlib.import_module(f'mobilevit_sdk.{module.name}')\n"
        f"from mobilevit_sdk import {name}\n"
        f"assert inspect.isfunction({name}), {name}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'convrt'"):
        mobilevit_sdk.convrt  # noqa: B018
