"""The benchmark's pictures: what goes into them, and that they are written; nothing here times anything."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("rich")

from PIL import Image

from benchmarks import drawing, limits, pictures, roofline
from benchmarks.cases import Case
from benchmarks.peers import FRONT_ENDS, OURS, PEERS
from benchmarks.report import MEASUREMENTS, PASSES

LAST, FIRST = Case(9, 8, 32, (3, 3)), Case(9, 8, 3, (5, 5), data_format="channels_first")
RATES = ((1000, 80e9), (100_000, 20e9))
LIMITS = limits.Limits(64, 100e9, RATES, RATES)


def entry(case: Case, kernel: str = "channels_forward_float32", **ms: float) -> dict[str, Any]:
    cost = case.cost
    both = "channels" if kernel.startswith("channels") else "columns"
    return {
        "case": case.to_json(),
        "cost": {"flops": cost.flops, "bytes_read": cost.bytes_read, "bytes_written": cost.bytes_written},
        "floor_ms": {what: limits.floor_ms(cost, LIMITS, passes=PASSES[what]) for what in MEASUREMENTS},
        "inference": {
            name.replace("_", "-"): {"ms": time} | ({"kernel": kernel} if name == OURS else {})
            for name, time in ms.items()
        },
        "training": {
            OURS: {"ms": 0.5, "kernel": f"{both}_input_gradient_float32"},
            "litert": {"unsupported": "computes no gradients"},
            "jax": {"failed": "KeyError"},
        },
    }


@pytest.fixture
def result() -> dict[str, Any]:
    return {
        "versions": {OURS: {"isa": "avx2"}},
        "limits": LIMITS.to_json(),
        "cases": [
            entry(LAST, ours=0.1, torch_nhwc=0.2, litert=0.05, ours_jax=0.01),
            entry(FIRST, "columns_forward_float32_in_place", ours=0.2, torch=0.4),
            entry(replace(LAST, batch=2), ours=0.3),
        ],
    }


class TestPoints:
    def test_rates_are_operations_over_times_below_the_roof(self, result: dict[str, Any]) -> None:
        first, second = roofline.points(result, "channels", "inference")
        cost = LAST.cost
        assert first.name == LAST.name
        assert first.intensity == pytest.approx(cost.arithmetic_intensity)
        assert first.intensity < second.intensity
        assert first.ours == pytest.approx(cost.flops / 0.1 / 1e6)
        assert first.peer == "litert"
        assert first.best == pytest.approx(cost.flops / 0.05 / 1e6)
        moved = cost.bytes_read + cost.bytes_written
        roof = min(100e9, first.intensity * LIMITS.copy_rate(moved))
        assert first.roof == pytest.approx(roof / 1e9)

    def test_training_counts_three_passes_below_the_same_roof(self, result: dict[str, Any]) -> None:
        forward, _ = roofline.points(result, "channels", "inference")
        training, _ = roofline.points(result, "channels", "training")
        assert training.ours == pytest.approx(3 * LAST.cost.flops / 0.5 / 1e6)
        assert training.roof == pytest.approx(forward.roof)
        assert training.peer is None
        assert math.isnan(training.best)

    def test_without_limits_there_is_no_roof(self, result: dict[str, Any]) -> None:
        for found in result["cases"]:
            found["floor_ms"] = None
        assert {point.roof for point in roofline.points(result, "columns", "inference")} == {None}


class TestPlacing:
    def test_what_is_far_apart_stays_and_what_is_crowded_spreads_about_its_middle(self) -> None:
        assert drawing.spread([0.0, 5.0, 5.0, 9.0], 1.0) == pytest.approx([0.0, 4.5, 5.5, 9.0])

    def test_crowds_that_meet_become_one(self) -> None:
        placed = drawing.spread([0.0, 0.0, 1.0, 1.0], 1.0)
        assert placed == pytest.approx([-1.0, 0.0, 1.0, 2.0])
        assert drawing.spread([], 1.0) == []

    def test_a_mark_has_a_lane_where_it_hides_none(self) -> None:
        assert pictures.lanes([0.0, 0.5, 0.9, 1.2, 3.0], 1.0, 3) == [0, 1, 2, 0, 0]

    def test_where_no_lane_is_free_it_takes_the_one_left_longest_ago(self) -> None:
        assert pictures.lanes([0.0, 0.1, 0.2, 0.3], 1.0, 2) == [0, 1, 0, 1]


def entry_intensity(entry: dict[str, Any]) -> float:
    cost = entry["cost"]
    return float(cost["flops"] / (cost["bytes_read"] + cost["bytes_written"]))


class TestAxis:
    def test_names_that_would_leave_the_picture_have_a_longer_axis(self) -> None:
        short, long = (
            [roofline.Point(name, intensity, 1.0, None, math.nan, None) for intensity in (1.0, 8.0)]
            for name in ("7x7x8-k3", "117x117x107-k10x11-s2x3-d2x3-m4-p10.2.4.12-n16-nchw")
        )
        [low, near], [_, far] = (roofline._x_limits([(found, 10.0)]) for found in (short, long))
        assert (low, near) == (0.5, 8.0 * roofline.BEYOND[0])
        assert far > near
        assert roofline._x_limits([(short, 10.0), (long, 10.0)]) == (0.5, far)
        assert roofline._x_limits([(long, 0.5)]) == (0.5, 8.0 * roofline.BEYOND[-1])  # which none fits

    def test_names_that_no_axis_fits_are_moved_to_the_left(self, result: dict[str, Any]) -> None:
        names = {point.name for point in roofline.points(result, "channels", "inference")}
        entries = [entry for entry in result["cases"] if entry["case"]["name"] in names]
        crowd = [{**entry, "case": {**entry["case"], "name": "n" * 40}} for entry in entries] * 40
        figure = roofline.roofline({**result, "cases": crowd}, "channels", ())
        assert figure is not None
        per_letter = roofline.NAME / math.tan(math.radians(roofline.SLANT))
        for axes in figure.axes:
            (low, high), width = axes.get_xlim(), axes.get_position().width * drawing.WIDTH
            assert high == max(entry_intensity(entry) for entry in entries) * roofline.BEYOND[-1]
            ends = [
                math.log(text.get_position()[0] / low) / math.log(high / low) * width + 40 * per_letter
                for text in axes.texts
                if text.get_rotation() == roofline.SLANT
            ]
            assert len(ends) == len(crowd)
            assert max(ends) == pytest.approx(width)

    def test_families_beside_each_other_have_one_axis_whatever_the_width_of_their_panels(
        self, result: dict[str, Any]
    ) -> None:
        """With a few cases a family's panels are half as wide, and long names in them need the longer axis."""
        few, many = (
            [point.name for point in roofline.points(result, kind, "inference")]
            for kind in ("columns", "channels")
        )
        mixed = {**result, "cases": []}
        for entry in result["cases"]:
            name = entry["case"]["name"]
            renamed = {**entry, "case": {**entry["case"], "name": "n" * 60}} if name in few else entry
            mixed["cases"] += [renamed] * (1 if name in few else 9 if name in many else 0)
        limits = set()
        for kind in ("channels", "columns"):
            figure = roofline.roofline(mixed, kind, ("channels", "columns"))
            assert figure is not None
            limits |= {(axes.get_position().width < 0.5, axes.get_xlim()) for axes in figure.axes}
        assert {narrow for narrow, _ in limits} == {True, False}
        assert len({axis for _, axis in limits}) == 1


class TestDraw:
    def test_all_pictures_are_written(self, result: dict[str, Any], tmp_path: Path) -> None:
        stored = tmp_path / "result.json"
        stored.write_text(json.dumps({"table": result, "more": 1}))
        out = tmp_path / "new folder"
        assert pictures.main([str(stored), "--out", str(out)]) == 0
        names = sorted(path.name for path in out.iterdir())
        assert names == ["roofline-channels.png", "roofline-columns.png", "speed.png"]
        for path in out.iterdir():
            with Image.open(path) as picture:
                assert picture.width == round(drawing.WIDTH * drawing.DPI)
                assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)

    def test_every_style_s_colour_is_in_the_picture(self, result: dict[str, Any], tmp_path: Path) -> None:
        pictures.draw(result, tmp_path)
        with Image.open(tmp_path / "speed.png") as picture:
            found = {colour for _, colour in picture.convert("RGB").getcolors(2**24) or []}
        for name in ("torch", "torch-nhwc", "litert"):
            wanted = [int(drawing.STYLES[name][1][at : at + 2], 16) for at in (1, 3, 5)]
            near = min(sum(abs(a - b) for a, b in zip(colour, wanted, strict=True)) for colour in found)
            assert near <= 8, name

    def test_a_family_without_cases_has_no_picture(self, result: dict[str, Any], tmp_path: Path) -> None:
        del result["cases"][1]
        assert [path.name for path in pictures.draw(result, tmp_path)] == [
            "speed.png",
            "roofline-channels.png",
        ]

    def test_rooflines_have_the_layers_of_a_suite_s_other_layout_each_once(
        self, result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn: list[list[str]] = []
        monkeypatch.setattr(
            pictures, "roofline", lambda both, *_: drawn.append([e["case"]["name"] for e in both["cases"]])
        )
        other = entry(replace(FIRST, channels=7), "columns_forward_float32", ours=0.1)
        suite = {"table": result, "channels_first": {"cases": [result["cases"][1], other]}}
        pictures.draw(suite, tmp_path)
        for names in drawn:
            assert sorted(names) == sorted(e["case"]["name"] for e in (*result["cases"], other))

    def test_families_of_no_layer_are_drawn_from_a_suite_s_random_and_large_ones(
        self, result: dict[str, Any], tmp_path: Path
    ) -> None:
        few = entry(Case(9, 8, 2, (3, 3)), "pixels_forward_float32", ours=0.1)
        one = entry(Case(9, 8, 32, (1, 1)), "scale_forward_float32", ours=0.1)
        large = entry(Case(56, 56, 64, (31, 31)), "karatsuba_forward_float32", ours=0.1)
        random = {**result, "cases": [*result["cases"], few, one]}
        suite = {"table": result, "random": random, "large": {"cases": [large]}}
        assert [path.name for path in pictures.draw(suite, tmp_path)] == [
            "speed.png",
            "roofline-channels.png",
            "roofline-columns.png",
            "roofline-karatsuba.png",
            "roofline-pixels.png",
            "roofline-scale.png",
        ]

    def test_without_limits_peers_or_training_they_are_drawn_all_the_same(
        self, result: dict[str, Any], tmp_path: Path
    ) -> None:
        result["limits"] = None
        for found in result["cases"]:
            kernel = found["inference"][OURS]["kernel"]
            found |= {
                "floor_ms": None,
                "inference": {OURS: {"ms": 0.1, "kernel": kernel}},
                "training": {},
            }
        assert len(pictures.draw(result, tmp_path)) == 3

    @pytest.mark.parametrize("emptied", ["cases", "times"])
    def test_a_result_with_nothing_in_it_is_refused(
        self, result: dict[str, Any], tmp_path: Path, emptied: str
    ) -> None:
        if emptied == "cases":
            del result["cases"]
        else:
            for found in result["cases"]:
                found |= {"inference": {}, "training": {}}
        with pytest.raises(ValueError, match="expected a result"):
            pictures.draw(result, tmp_path)

    def test_every_peer_has_a_style_of_its_own(self) -> None:
        assert set(drawing.STYLES) == set(PEERS) - {OURS, *FRONT_ENDS}
        assert len(set(drawing.STYLES.values())) == len(drawing.STYLES)
