"""What `import depthwise` brings along, and what is in the package."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable

import pytest

import depthwise


def test_importing_the_package_imports_numpy_and_the_standard_library_alone(
    python: Callable[..., str],
) -> None:
    program = """
import sys
before = set(sys.modules)  # those of start-up files in site-packages
import depthwise
brought = {name.partition(".")[0] for name in sys.modules.keys() - before}
assert {"depthwise", "numpy"} <= brought
print(sorted(brought - sys.stdlib_module_names - {"depthwise", "numpy"}))
print(sorted(name for name in sys.modules if name.startswith("depthwise.cli")))
"""
    assert python(program) == "[]\n[]\n"


def test_calls_import_nothing_more(python: Callable[..., str]) -> None:
    program = """
import sys
import depthwise, numpy as np
before = set(sys.modules)
x, kernel = np.ones((1, 9, 9, 3), np.float32), np.ones((3, 3, 3, 1), np.float32)
y, pullback = depthwise.depthwise_conv2d_vjp(x, kernel, padding="same", activation="gelu")
pullback(y)
depthwise.depthwise_conv2d(x[..., ::-1], kernel, out=np.empty((1, 7, 7, 3), np.float32))
depthwise.info()
print(sorted(name for name in sys.modules.keys() - before if not name.startswith("numpy")))
"""
    assert python(program) == "[]\n"


@pytest.mark.parametrize(
    "module", ["activations", "arguments", "cost", "native", "ops", "reference", "spec", "_native"]
)
def test_every_module_can_be_imported_first(python: Callable[..., str], module: str) -> None:
    assert python(f"import depthwise.{module}; print('done')") == "done\n"


def test_the_package_says_that_it_is_typed() -> None:
    files = importlib.resources.files(depthwise)
    assert (files / "py.typed").is_file()
    assert (files / "_native.pyi").is_file()


def test_public_names_exist_and_are_documented() -> None:
    for name in depthwise.__all__:
        assert getattr(depthwise, name).__doc__, name
    names: dict[str, object] = {}
    exec("from depthwise import *", names)
    assert set(depthwise.__all__) == names.keys() - {"__builtins__"}
