"""`mobilevit list` and `list_models`: what is stored of each model is what the network itself says."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mobilevit_sdk.errors import RequestError
from mobilevit_sdk.models import catalog as catalog_module
from mobilevit_sdk.models import registry
from mobilevit_sdk.models.catalog import catalog, describe
from mobilevit_sdk.models.mobilevit import MobileViT, MobileViTConfig
from mobilevit_sdk.models.registry import Entry, list_models, model_entries, register_family

ALL_ENTRIES = model_entries()
SMALLEST = {entry.family: entry for entry in reversed(model_entries())}


def stored(name: str) -> catalog_module.CatalogEntry:
    return next(entry for entry in catalog() if entry.model == name)


def test_every_model_is_listed_with_what_the_registry_knows() -> None:
    listed = [(each.model, each.family, each.image_size, each.imagenet_top1, each.license) for each in catalog()]
    assert listed == [
        (entry.name, entry.family, entry.info.preprocessing.image_size, entry.info.top1, entry.info.license)
        for entry in model_entries()
    ]


@pytest.mark.parametrize("entry", SMALLEST.values(), ids=lambda entry: entry.name)
def test_stored_costs_are_those_of_the_network(entry: Entry) -> None:
    assert stored(entry.name) == describe(entry)


@pytest.mark.slow
def test_stored_costs_of_all_models_are_those_of_their_networks() -> None:
    assert catalog() == [describe(entry) for entry in model_entries()]


def test_list_does_not_import_torch() -> None:
    program = (
        "import sys; from mobilevit_sdk.cli import main\n"
        "try: main(['list', '--json'])\n"
        "except SystemExit as done: assert not done.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert [each["model"] for each in json.loads(done.stdout)["models"]] == list_models()


def test_models_of_other_packages_are_counted_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_families", dict(registry._families))
    monkeypatch.setattr(registry, "_models", dict(registry._models))
    monkeypatch.setattr(catalog_module, "entry_points", lambda group: [SimpleNamespace(name=group)])

    class OtherConfig(MobileViTConfig, frozen=True, kw_only=True):
        pass

    @register_family("other", OtherConfig)
    class Other(MobileViT):
        pass

    small = registry.model_entry("mobilevit_xxs")
    registry._models["other_xxs"] = Entry("other_xxs", "other", small.config, small.info)
    assert [each.model for each in catalog()] == [*(entry.name for entry in ALL_ENTRIES), "other_xxs"]
    (found,) = catalog("other")
    assert (found.parameters, found.macs) == (stored("mobilevit_xxs").parameters, stored("mobilevit_xxs").macs)


def test_models_are_found_by_pattern_and_family() -> None:
    assert list_models() == [entry.name for entry in model_entries()]
    assert list_models("mobilevit_xs") == ["mobilevit_xs"]
    assert set(list_models("mobilevit*")) == {*list_models(family="mobilevit"), *list_models(family="mobilevitv2")}
    assert list_models("resnet*") == []
    assert doctest.testmod(registry).failed == 0
    for ask in (lambda: list_models(family="mobilevitt"), lambda: catalog("mobilevitt")):
        with pytest.raises(RequestError, match="unknown family 'mobilevitt'; did you mean mobilevit"):
            ask()
