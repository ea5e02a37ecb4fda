"""What every test file may ask for: phone files, each converted once a run, and how hard hypothesis tries."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from phone_files import SharedFiles

# Tests write each example over the last one in the same `tmp_path`, hence the health check.
_ALL = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
settings.register_profile("usual", max_examples=10, print_blob=True, **_ALL)
settings.register_profile("exhaustive", max_examples=30, print_blob=True, **_ALL)
settings.load_profile("exhaustive" if os.environ.get("EXHAUSTIVE") else "usual")


@pytest.fixture(scope="module", autouse=True)
def cheap_garbage_collection() -> Iterator[None]:
    """Toolchains collect garbage over all that they and torch have loaded: two seconds of nothing each time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def phone_files(run_folder: Path) -> SharedFiles:
    """Phone files of the tiny networks: see `SharedFiles`."""
    return SharedFiles(run_folder)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For what is compared bit for bit: sums depend on the number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
