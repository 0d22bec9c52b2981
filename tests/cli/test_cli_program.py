"""The program as a whole: `info`, `cost`, `bench`, versions, exit codes and what happens without the extra."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from typer.testing import CliRunner

import depthwise
from depthwise.cli.app import app
from depthwise.cli.bench import find_checkout
from depthwise.cli.report import with_unit
from depthwise.spec import Spec

Run: TypeAlias = Callable[..., str]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_info_is_what_the_library_says(run: Run) -> None:
    facts = dataclasses.asdict(depthwise.info())
    assert json.loads(run("info", "--json")) == json.loads(json.dumps(facts))
    assert str(facts["version"]) in run("info")


def test_cost_is_what_the_library_counts(run: Run) -> None:
    options = "--input 2,33,20,6 --kernel 5,3 --stride 2,1 --dilation 1,2 --padding 1,0,2,2 --multiplier 3"
    document = json.loads(run("cost", *options.split(), "--no-bias", "--dtype", "float16", "--json"))
    spec = Spec((5, 3), (2, 1), ((1, 0), (2, 2)), 3, dilation_rate=(1, 2), use_bias=False)
    counted = dataclasses.asdict(spec.cost((2, 33, 20, 6), "float16"))
    assert {name: document[name] for name in counted} == json.loads(json.dumps(counted))
    assert document["kernel_shape"] == [5, 3, 6, 3]
    assert document["output_shape"] == list(spec.output_shape((2, 33, 20, 6)))


def test_cost_of_channels_first(run: Run) -> None:
    first = json.loads(
        run("cost", "--input", "1,8,20,30", "--kernel", 3, "--data-format", "channels_first", "--json")
    )
    last = json.loads(run("cost", "--input", "1,20,30,8", "--kernel", 3, "--json"))
    assert first["output_shape"] == [1, 8, 18, 28]
    assert first["macs"] == last["macs"]


def test_cost_is_printed_in_human_units(run: Run) -> None:
    printed = run("cost", "--input", "1,112,112,32", "--kernel", 3, "--padding", "same")
    for text in (
        "3.61 M (3,612,672)",
        "7.14 MFLOP",
        "1.53 MiB",
        "2.22 FLOP/byte",
        "3.57 M (1.2% meet padding)",
    ):
        assert text in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--input 1,2,2 --kernel 3", "--input: expected four integers"),
        ("--input 1,2,2,8 --kernel 3", "kernel_size: expected a dilated kernel no larger"),
        ("--input 1,9,9,8 --kernel 3,3,3", "--kernel: expected an integer or a pair"),
        ("--input 1,9,9,8 --kernel 3 --dtype int8", "dtype: expected"),
        ("--input 1,9,9,8 --kernel 3 --multiplier 0", "depth_multiplier: expected"),
        ("--input 1,9,9,8 --kernel 3 --data-format nchw", "data_format: expected"),
    ],
)
def test_cost_errors(fail: Run, options: str, message: str) -> None:
    assert message in fail("cost", *options.split())


@pytest.mark.parametrize(
    ("number", "unit", "base", "text"),
    [
        (0, "B", 1024, "0 B"),
        (999, "", 1000, "999"),
        (1000, "", 1000, "1 k"),
        (999_999, "FLOP", 1000, "1 MFLOP"),
        (1023, "B", 1024, "1023 B"),
        (1000 * 1024, "B", 1024, "1000 KiB"),
        (1024**2, "B", 1024, "1 MiB"),
        (1.5e18, "", 1000, "1500 P"),
    ],
)
def test_units(number: float, unit: str, base: int, text: str) -> None:
    assert with_unit(number, unit, base) == text


def test_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "depthwise.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"depthwise {depthwise.__version__}\n"


def test_no_command_shows_the_commands() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    for command in ("demo", "apply", "info", "cost", "bench"):
        assert command in result.output


def test_errors_reach_the_shell_as_exit_code_2() -> None:
    done = python("from depthwise.cli import main; main(['apply', 'missing.png', '--kernel', 'blur'])")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "depthwise: error: cannot read missing.png: No such file or directory\n"


def test_the_library_needs_nothing_of_the_extra() -> None:
    done = python(
        "import sys, depthwise; "
        "print(sorted({'typer', 'rich', 'PIL', 'matplotlib', 'scipy', 'skimage'} & set(sys.modules)))"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("typer", "--version"),
        ("rich", "info"),
        ("PIL", "apply x.png --kernel blur"),
        ("matplotlib", "demo"),
        ("skimage", "demo"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(tmp_path: Path, module: str, command: str) -> None:
    code = (
        f"import os, sys; os.chdir({str(tmp_path)!r}); sys.modules[{module!r}] = None; "
        f"from depthwise.cli import main; main({command.split()!r})"
    )
    done = python(code)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"needs {module}," in done.stderr
    assert 'it comes with the extra "cli"' in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_missing_module_of_ours_keeps_its_traceback() -> None:
    done = python("import sys; sys.modules['depthwise.spec'] = None; import depthwise.cli.app")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_checkout_is_found_from_inside(tmp_path: Path) -> None:
    inside = tmp_path / "src" / "depthwise"
    inside.mkdir(parents=True)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "run.py").touch()
    assert find_checkout(inside) is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "something-else"\n', encoding="utf-8")
    assert find_checkout(inside) is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "depthwise"\n', encoding="utf-8")
    assert find_checkout(inside) == tmp_path


def test_outside_a_checkout_it_says_so(fail: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("depthwise.cli.bench.find_checkout", lambda _: None)
    assert "bench: the benchmark is part of the source checkout" in fail("bench", "--quick")


def test_arguments_go_to_the_benchmark(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "pyproject.toml").write_text('name = "depthwise"', encoding="utf-8")
    (tmp_path / "benchmarks" / "run.py").write_text(
        "def main(arguments):\n    print(arguments)\n    return 3\n", encoding="utf-8"
    )
    code = (
        f"import os; os.chdir({str(tmp_path)!r}); "
        "from depthwise.cli import bench, main; bench.__file__ = 'nowhere'; main(['bench', '--help', '-k', 'x'])"
    )
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (3, "['--help', '-k', 'x']\n", "")
