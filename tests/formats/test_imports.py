"""What an import of a toolchain brings with it: the seconds that every verdict would wait for."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_executorchs_runtime_is_imported_without_its_exporter_which_still_imports():
    pytest.importorskip("executorch")
    found = run(
        "import sys\n"
        "from mobilevit_converters.executorch.toolchain import import_module, import_runtime\n"
        "runtime = import_runtime('executorch.runtime')\n"
        "print(sorted({n for n in sys.modules if n.startswith(('executorch.exir', 'torchao'))}))\n"
        "print('XnnpackBackend' in runtime.Runtime.get().backend_registry.registered_backend_names)\n"
        "exir = import_module('executorch.exir')\n"
        "print(hasattr(exir, 'to_edge_transform_and_lower'), import_runtime('executorch.runtime') is runtime)\n"
    )
    assert found == ["[]", "True", "True", "True"]


def test_coremltools_is_imported_without_frontends_that_still_import():
    pytest.importorskip("coremltools")
    pytest.importorskip("sklearn")
    found = run(
        "import sys\n"
        "from mobilevit_converters.coreml.toolchain import import_coremltools\n"
        "import_coremltools()\n"
        "print(sorted({n.split('.')[0] for n in sys.modules} & {'executorch', 'sklearn', 'torchao', 'transformers'}))\n"
        "import sklearn.datasets\n"
        "print('sklearn' in sys.modules)\n"
    )
    assert found == ["[]", "True"]


def test_finding_every_converter_imports_no_toolchain():
    heavy = "{'torch', 'coremltools', 'executorch', 'ai_edge_litert', 'litert_torch', 'sklearn', 'scipy'}"
    found = run(
        "import sys\n"
        "import mobilevit_sdk.parity, mobilevit_sdk.pytest_plugin\n"
        "from mobilevit_sdk.formats.converter import converters\n"
        "converters()\n"
        f"print(sorted({{n.split('.')[0] for n in sys.modules}} & {heavy}))\n"
    )
    assert found == ["[]"]
