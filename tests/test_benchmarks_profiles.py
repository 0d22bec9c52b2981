"""What a profile makes of samples, which layers it takes, and its pictures; nothing here times anything."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("rich")

from PIL import Image

from benchmarks import profile_pictures, profiles, sampling
from benchmarks.cases import Case
from benchmarks.peers import OURS
from benchmarks.sampling import FILES, FUNCTIONS, PARTS, Frame, part_of

SOURCES = Path(__file__).resolve().parent.parent / "csrc"

INHERITING = {"geometry.h", "halves.h", "shuffles.h", "table.h", "vec.h", "views.h"}
"""Files whose lines count for whoever uses them."""

LAST = Case(9, 8, 32, (3, 3))
WIDE = Case(46, 46, 3, (3, 3), data_format="channels_first")
FEW = Case(46, 46, 3, (3, 3))


class TestParts:
    def test_every_file_of_kernels_has_a_part_or_counts_for_its_users(self) -> None:
        present = {path.name for path in (SOURCES / "kernels").iterdir()}
        assert present - set(FILES) == INHERITING
        everywhere = {path.name for path in SOURCES.rglob("*.*")}
        assert set(FILES) <= everywhere
        assert set(FILES.values()) | set(FUNCTIONS.values()) == set(PARTS)

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_functions_of_another_part_than_their_file_exist(self, name: str) -> None:
        texts = [path.read_text() for path in (SOURCES / "kernels").iterdir()]
        assert any(re.search(rf"\b{name}\(", text) for text in texts)

    @pytest.mark.parametrize(
        ("frames", "part"),
        [
            (
                [("f", "vec.h"), ("void depthwise::avx2::dense_tile<2, 8>(Tile const&)", "channels_tile.h")],
                "tiles",
            ),
            ([("store", "vec.h"), ("void convert_back<float>(float*, long)", "rows.h")], "results"),
            (
                [("store", "vec.h"), ("void convert_span<float>(float*)", "rows.h"), ("f", "pixels.h")],
                "staging",
            ),
            (
                [("quotient(long, long)", "geometry.h"), ("RowMaker::make(long)", "channels_convolution.h")],
                "set-up",
            ),
            ([("load", "atomic_base.h"), ("run(long)", "pool.cc")], "threads"),
            ([("main", "python.c")], "call"),
            ([], "call"),
        ],
    )
    def test_the_innermost_frame_that_belongs_to_one_decides(
        self, frames: list[tuple[str, str]], part: str
    ) -> None:
        assert part_of([Frame(*frame) for frame in frames]) == part


class TestReading:
    def test_inlined_frames_come_innermost_first(self) -> None:
        inlined = "load(float*)\n/a/vec.h:12\ntile()\n/a/b/tile.h:3 (discriminator 2)\n"
        assert sampling.read_frames(f"0x00000000000000ff\n{inlined}0x10\n??\n??:0\n") == {
            255: [Frame("load(float*)", "vec.h"), Frame("tile()", "tile.h")],
            16: [Frame("??", "??")],
        }

    def test_samples_outside_of_the_library_have_no_address(self) -> None:
        ours = "  7f00001010 (/lib/libdepthwise.so)\n"
        found = sampling.read_samples(
            f"{ours}{ours}\n ffff ([kernel.kallsyms])\n", "/lib/libdepthwise.so", 0x7F00000000
        )
        assert found == {0x1010: 2, None: 1}

    def test_a_library_without_line_numbers_is_refused(self, tmp_path: Path) -> None:
        if shutil.which("addr2line") is None or shutil.which("cc") is None:
            pytest.skip("needs addr2line and a C compiler")
        source = tmp_path / "double.c"
        source.write_text("int twice(int n) { return 2 * n; }\n")
        address = {}
        for name, flags in (("with", ["-g1"]), ("without", ["-g0"])):
            library = tmp_path / name
            subprocess.run(["cc", *flags, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
            listed = subprocess.run(["nm", str(library)], capture_output=True, text=True, check=True).stdout
            found = re.search(r"^(\w+) T _?twice$", listed, re.MULTILINE)
            assert found is not None
            address[name] = int(found[1], 16)
        frames = sampling.find_frames(str(tmp_path / "with"), [address["with"]])
        assert frames == {address["with"]: [Frame("twice", "double.c")]}
        with pytest.raises(RuntimeError, match="no line numbers"):
            sampling.find_frames(str(tmp_path / "without"), [address["without"]])


def entry(case: Case, ours: float, best: float, families: str = "channels channels") -> dict[str, Any]:
    cost = case.cost
    outcomes = [
        {OURS: {"ms": ours, "kernel": f"{family}_forward_float32"}, "torch": {"ms": best}}
        for family in families.split()
    ]
    return {
        "case": case.to_json(),
        "cost": {"flops": cost.flops, "bytes_read": cost.bytes_read, "bytes_written": cost.bytes_written},
        "floor_ms": None,
        "inference": outcomes[0],
        "training": outcomes[1],
    }


class TestChoice:
    def test_the_table_what_misses_and_families_that_the_table_has_none_of(self) -> None:
        missed, fast = Case(5, 5, 64, (3, 3)), Case(6, 6, 64, (3, 3))
        result = {
            "table": {"cases": [entry(LAST, 1.0, 9.0)]},
            "channels_first": {"cases": [entry(WIDE, 1.0, 9.0, "columns columns")]},
            "random": {
                "cases": [
                    entry(missed, 1.0, 0.9),
                    entry(fast, 1.0, 9.0),
                    entry(FEW, 1.0, 9.0, "pixels columns"),
                ]
            },
            "listed": {"cases": [entry(LAST, 1.0, 2.0)]},
        }
        found = {layer.case: layer for layer in profiles.chosen_of(result)}
        assert list(found) == [LAST, WIDE, FEW, missed]
        both = ("inference", "training")
        assert found[LAST] == profiles.Layer(LAST, both, ("table", "listed"))
        assert found[WIDE] == profiles.Layer(WIDE, both, ("channels_first",))
        assert found[FEW] == profiles.Layer(FEW, ("inference",), ("random",))  # training goes to columns
        assert found[missed] == profiles.Layer(missed, both, ("random",))

    @pytest.mark.parametrize(
        ("section", "ratio", "what", "missed"),
        [
            ("table", 0.99, "inference", True),
            ("table", 1.01, "inference", False),
            ("table", 2.4, "training", True),
            ("random", 2.4, "training", False),
            ("large", 1.9, "inference", True),
            ("large", 5.1, "training", False),
        ],
    )
    def test_each_section_has_bounds_of_its_own(
        self, section: str, ratio: float, what: str, missed: bool
    ) -> None:
        assert profiles.misses(entry(LAST, 1.0, ratio), what, section) is missed

    def test_a_random_layer_misses_beside_its_neighbour_too(self) -> None:
        slow = entry(LAST, 1.0, 9.0)
        assert not profiles.misses(slow | {"neighbour": entry(LAST, 0.3, 9.0)}, "inference", "random")
        assert profiles.misses(slow | {"neighbour": entry(LAST, 0.2, 9.0)}, "inference", "random")


def profiled(case: Case, families: str, *sections: str) -> dict[str, Any]:
    forward, backward = families.split()
    shares = dict(zip(PARTS, (0.5, 0.2, 0.1, 0.1, 0.05, 0.05), strict=True))
    found = {
        "ms": 0.01,
        "one_thread_ms": 0.018,
        "samples": 100,
        "running": 1.6,
        "parts": shares,
        "functions": {},
    }
    return {
        "case": case.to_json(),
        "sections": sections,
        "flops": case.cost.flops,
        "bytes": 1,
        "inference": found | {"kernel": f"{forward}_forward_float32"},
        "training": found | {"kernel": f"{backward}_input_gradient_float32"},
        "floor_ms": {"inference": 0.005, "training": 0.005},
    }


@pytest.fixture
def result() -> dict[str, Any]:
    return {
        "settings": {"threads": 2},
        "limits": {"peak_gflops": 200.0},
        "profiles": [
            profiled(LAST, "channels channels", "table"),
            profiled(Case(7, 7, 64, (3, 3)), "channels channels", "random"),
            profiled(FEW, "pixels columns", "random"),
        ],
    }


class TestResult:
    def test_the_rate_in_tiles_is_that_of_the_time_spent_there(self, result: dict[str, Any]) -> None:
        layer = result["profiles"][0]
        in_tiles = 0.01 * 1.6 * 0.5  # ms of one thread
        at_the_peak = layer["flops"] / 100e9 * 1e3
        assert profiles.tiles_rate(layer, "inference", 200.0, 2) == pytest.approx(at_the_peak / in_tiles)
        assert profiles.tiles_rate(layer, "training", 200.0, 2) == pytest.approx(3 * at_the_peak / in_tiles)

    def test_every_layer_and_part_is_printed(
        self, result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "profiles.json"
        path.write_text(json.dumps(result))
        assert profiles.main(["--show", str(path)]) == 0
        printed = capsys.readouterr().out
        for layer in (LAST, FEW):
            assert printed.count(f"{layer.name} ") == 2
        for part, meaning in PARTS.items():
            assert f"{part}: {meaning}" in printed

    def test_nothing_to_profile_is_an_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            profiles.main([])
        assert "expected a result of benchmarks.suite" in capsys.readouterr().err

    def test_a_result_without_the_table_is_an_error(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "suite.json"
        path.write_text("{}")
        with pytest.raises(SystemExit):
            profiles.main([str(path)])
        assert "with the table in it" in capsys.readouterr().err


class TestPictures:
    def test_random_layers_are_shown_only_where_the_table_has_none(self, result: dict[str, Any]) -> None:
        shown = [
            layer["case"]["name"] for layer in profile_pictures.layers_of(result, "channels", "inference")
        ]
        assert shown == [LAST.name]
        others = [
            layer["case"]["name"] for layer in profile_pictures.layers_of(result, "pixels", "inference")
        ]
        assert others == [FEW.name]

    def test_every_family_with_layers_has_a_picture(self, result: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "profiles.json"
        path.write_text(json.dumps(result))
        assert profile_pictures.main([str(path), "--out", str(tmp_path)]) == 0
        written = sorted(tmp_path.glob("*.png"))
        assert [path.name for path in written] == [
            f"profile-{kind}.png" for kind in ("channels", "columns", "pixels")
        ]
        for picture in written:
            with Image.open(picture) as image:
                assert image.width > 1000

    def test_another_result_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "suite.json"
        path.write_text("{}")
        with pytest.raises(SystemExit):
            profile_pictures.main([str(path)])
        assert "expected a result of benchmarks.profiles" in capsys.readouterr().err
