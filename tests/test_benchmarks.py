"""The benchmark's cases, arithmetic and checks; nothing here times anything or needs a peer."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rich")


from benchmarks import cases, data, limits, networks
from benchmarks.cases import Case
from benchmarks.peers.base import Problem, from_torch_weight
from depthwise import reference
from depthwise.spec import Cost

COPY, GRADIENTS = ((1000, 80e9), (100_000, 20e9)), ((1000, 90e9), (100_000, 10e9))
LIMITS = limits.Limits(64, 100e9, COPY, GRADIENTS)


def cost(flops: int, bytes_read: int, bytes_written: int) -> Cost:
    return Cost(flops // 2, flops // 2, flops, 0, bytes_read, bytes_written, 0.0, (1, 1))


class TestCases:
    def test_every_listed_case_is_a_layer_with_an_output(self) -> None:
        for case in cases.listed():
            assert min(case.output_size) >= 1, case.name
            assert case.cost.macs_inside > 0, case.name

    def test_names_tell_the_cases_apart(self) -> None:
        listed = cases.listed()
        assert len({case.name for case in listed}) == len(set(listed)) == len(listed)

    def test_a_name_gives_its_case_back(self) -> None:
        drawn = cases.random_cases(100, 1)
        for case in (*cases.listed(), *cases.LARGE, *drawn):
            for dtype in ("float32", "bfloat16"):
                again = replace(case, dtype=dtype)
                assert cases.from_name(again.name) == again

    @pytest.mark.parametrize(
        "name",
        ["", "k3", "9x9x9", "9x9-k3", "9x9x9-k", "9x9x9-k3-", "9x9x9-k3-q2", "9x9x9-k3x3", "9x9x9-k3-p1"],
    )
    def test_other_names_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="expected a name such as"):
            cases.from_name(name)

    def test_a_name_says_what_differs_from_the_defaults(self) -> None:
        assert Case(112, 112, 32, (3, 3)).name == "112x112x32-k3"
        everything = Case(
            9, 8, 7, (5, 3), (1, 2), ((0, 1), (2, 3)), (2, 1), 4, 16, "channels_first", "float16"
        )
        assert everything.name == "9x8x7-k5x3-s1x2-d2x1-m4-p0.1.2.3-n16-nchw-float16"

    def test_cases_survive_json(self) -> None:
        for case in (*cases.TABLE, *cases.random_cases(50, seed=3)):
            back = cases.from_json(json.loads(json.dumps(case.to_json())))
            assert (back, back.origins) == (case, case.origins)

    def test_the_table_begins_with_the_layers_the_project_states_its_speed_by(self) -> None:
        assert [case.name for case in cases.TABLE[:7]] == [
            "112x112x32-k3",
            "56x56x128-k3",
            "14x14x512-k3",
            "28x28x240-k5",
            "56x56x96-k7",
            "14x14x512-k27",
            "112x112x32-k3-n16",
        ]

    def test_a_layer_that_networks_share_is_listed_once_and_names_them_all(self) -> None:
        [shared] = [case for case in cases.listed() if case.name == "112x112x32-k3"]
        assert {"MobileNetV1", "MobileNetV2", "EfficientNetB0"} <= set(shared.origins)

    def test_every_network_is_listed_at_every_batch_size(self) -> None:
        found = {(origin, case.batch) for case in cases.listed() for origin in case.origins}
        assert {(name, batch) for name in networks.NETWORKS for batch in cases.BATCHES} <= found

    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("k9", ["28x28x128-k9"]),
            ("k9, K4", ["28x28x128-k4", "28x28x128-k9"]),
            ("28x28x128-*", ["28x28x128-k4", "28x28x128-k9"]),
            ("ConvNeXt*", ["56x56x96-k7"]),
            ("14x14x512-k3", ["14x14x512-k3"]),
            ("nothing", []),
        ],
    )
    def test_patterns_match_names_their_words_and_networks(self, pattern: str, names: list[str]) -> None:
        assert [case.name for case in cases.select(cases.TABLE, pattern)] == names

    def test_no_pattern_selects_everything(self) -> None:
        assert cases.select(cases.TABLE, None) == cases.TABLE


class TestLargeAndSample:
    def test_large_are_the_27x27_and_31x31_layers_of_replknet(self) -> None:
        assert [case.name for case in cases.LARGE] == [
            "56x56x128-k31",
            "14x14x512-k27",
            "56x56x192-k31",
            "14x14x768-k27",
        ]

    def test_a_sample_is_of_listed_cases_beyond_the_table_and_follows_its_seed(self) -> None:
        beyond = cases.listed()[len(cases.TABLE) :]
        drawn = cases.sample(40, seed=3)
        assert len(set(drawn)) == 40
        assert drawn == tuple(case for case in beyond if case in drawn)
        assert not set(drawn) & set(cases.TABLE)
        assert drawn == cases.sample(40, seed=3) != cases.sample(40, seed=4)

    def test_a_sample_of_more_than_there_are_is_all_of_them(self) -> None:
        assert cases.sample(10_000, seed=1) == cases.listed()[len(cases.TABLE) :]


class TestNeighbour:
    def test_a_well_shaped_layer_is_its_own_neighbour(self) -> None:
        for case in (
            Case(112, 112, 32, (3, 3)),
            Case(112, 112, 64, (3, 3), (2, 2)),
            Case(56, 56, 96, (7, 7), batch=8),
            Case(28, 28, 240, (5, 5)),
        ):
            assert cases.neighbour(case) == case

    @pytest.mark.parametrize(
        ("case", "name"),
        [
            (Case(40, 30, 64, (3, 3), data_format="channels_first"), "40x30x64-k3"),
            (Case(40, 30, 64, (3, 3), dilation=(2, 3), batch=4), "40x30x64-k3-n4"),
            # valid: the neighbour has the size of the output
            (Case(40, 30, 64, (3, 3), padding="valid"), "38x28x64-k3"),
            (Case(40, 30, 64, (3, 3), padding=((2, 2), (0, 0))), "42x28x64-k3"),
            # output channels, and their number rounded up: a quarter of the pixels for four times as many
            (Case(40, 30, 32, (3, 3), multiplier=4), "40x30x128-k3"),
            (Case(40, 32, 4, (3, 3)), "20x16x16-k3"),
            # stride 3 becomes 2, on as many outputs; 1 and 2 are as near to sqrt(2)
            (Case(60, 30, 64, (3, 3), (3, 3)), "40x20x64-k3-s2"),
            (Case(60, 30, 64, (3, 3), (1, 3)), "120x20x64-k3-s2"),
            (Case(60, 30, 64, (3, 3), (1, 2)), "60x15x64-k3"),
            # kernels by the number of their taps that meet the image
            (Case(100, 100, 64, (1, 1)), "100x100x64-k1"),
            (Case(100, 100, 64, (1, 11)), "100x100x64-k3"),
            (Case(100, 100, 64, (2, 2)), "100x100x64-k3"),
            (Case(100, 100, 64, (11, 11)), "100x100x64-k7"),
            (Case(100, 100, 64, (4, 5)), "100x100x64-k5"),
            (Case(5, 5, 64, (11, 11)), "5x5x64-k5"),
            (Case(1, 1, 3, (3, 3)), "1x1x16-k1"),
        ],
    )
    def test_every_argument_becomes_the_nearest_well_shaped_one(self, case: Case, name: str) -> None:
        assert cases.neighbour(case).name == name

    def test_neighbours_of_random_layers_are_well_shaped_and_do_as_much(self) -> None:
        drawn = cases.random_cases(400, seed=11)
        intensities = []
        for case in drawn:
            beside = cases.neighbour(case)
            assert (beside.data_format, beside.padding) == ("channels_last", "same")
            assert (beside.multiplier, beside.dilation, beside.batch) == (1, (1, 1), case.batch)
            assert beside.channels % cases.LANES == 0
            assert beside.kernel in {(size, size) for size in cases.WELL_SHAPED_KERNELS}
            assert beside.strides in {(1, 1), (2, 2)}
            assert cases.neighbour(beside).channels == beside.channels
            # No neighbour has so much more to do that a call, which costs both the same, would decide.
            assert beside.cost.flops <= 3 * case.cost.flops
            per_byte = [
                found.flops / (found.bytes_read + found.bytes_written) for found in (case.cost, beside.cost)
            ]
            intensities.append(per_byte[1] / per_byte[0])
        assert sum(ratio <= 3 for ratio in intensities) >= 0.97 * len(drawn)
        assert max(intensities) <= 6


class TestNetworks:
    def test_efficientnet_b0_has_the_layers_of_its_paper(self) -> None:
        assert networks.NETWORKS["EfficientNetB0"] == (
            (112, 32, 3, 1),
            (112, 96, 3, 2),
            (56, 144, 3, 1),
            (56, 144, 5, 2),
            (28, 240, 5, 1),
            (28, 240, 3, 2),
            (14, 480, 3, 1),
            (14, 480, 5, 1),
            (14, 672, 5, 1),
            (14, 672, 5, 2),
            (7, 1152, 5, 1),
            (7, 1152, 3, 1),
        )

    def test_efficientnet_b7_ends_in_its_published_width(self) -> None:
        assert networks.NETWORKS["EfficientNetB7"][0] == (300, 64, 3, 1)
        assert max(layer.channels for layer in networks.NETWORKS["EfficientNetB7"]) == 640 * 6

    def test_scaled_channels_are_multiples_of_8_and_hardly_below_the_scaled_number(self) -> None:
        for channels in range(8, 400, 8):
            for width, _, _ in networks.EFFICIENTNETS.values():
                scaled = networks.scaled_channels(channels, width)
                assert scaled % 8 == 0
                assert scaled >= 0.9 * channels * width


class TestRandomCases:
    def test_a_seed_gives_the_same_cases_again(self) -> None:
        assert cases.random_cases(40, seed=7) == cases.random_cases(40, seed=7)
        assert cases.random_cases(40, seed=7) != cases.random_cases(40, seed=8)

    def test_a_longer_draw_begins_with_the_shorter_one(self) -> None:
        assert cases.random_cases(40, seed=7)[:10] == cases.random_cases(10, seed=7)

    def test_draws_stay_within_the_work_that_is_allowed(self) -> None:
        for case in cases.random_cases(200, seed=1, max_macs=1_000_000, max_bytes=2_000_000):
            assert case.cost.macs_inside > 0
            assert case.cost.macs <= 1_000_000
            assert case.cost.bytes_read + case.cost.bytes_written <= 2_000_000

    def test_draws_reach_every_corner_of_the_argument_space(self) -> None:
        drawn = cases.random_cases(400, seed=5)
        assert {case.data_format for case in drawn} == {"channels_last", "channels_first"}
        assert {case.multiplier for case in drawn} == {1, 2, 3, 4}
        assert {size for case in drawn for size in case.kernel} == set(range(1, 12))
        assert {stride for case in drawn for stride in case.strides} == {1, 2, 3}
        assert {rate for case in drawn for rate in case.dilation} == {1, 2, 3}
        for pair in ("kernel", "strides", "dilation"):
            assert any(getattr(case, pair)[0] != getattr(case, pair)[1] for case in drawn), pair
        assert {case.padding if isinstance(case.padding, str) else "explicit" for case in drawn} == {
            "valid",
            "same",
            "explicit",
        }
        assert all(5 <= size <= 130 for case in drawn for size in (case.height, case.width))
        assert all(1 <= case.channels <= 1024 and 1 <= case.batch <= 16 for case in drawn)

    def test_a_negative_count_is_refused(self) -> None:
        with pytest.raises(ValueError, match="count"):
            cases.random_cases(-1, seed=0)


class TestFloor:
    def test_arithmetic_bounds_a_layer_with_much_of_it(self) -> None:
        assert limits.floor_ms(cost(2_000_000_000, 500, 500), LIMITS) == pytest.approx(20.0)

    def test_copying_bounds_a_layer_with_little_arithmetic(self) -> None:
        # 1 MB lies beyond the last measured size, whose rate is 20 GB/s.
        assert limits.floor_ms(cost(10, 600_000, 400_000), LIMITS) == pytest.approx(0.05)

    def test_a_training_step_is_three_passes(self) -> None:
        layer = cost(2_000_000_000, 500, 500)
        assert limits.floor_ms(layer, LIMITS, passes=3) == pytest.approx(60.0)

    def test_moving_alone_takes_gradients_at_a_rate_of_their_own(self) -> None:
        moving = limits.moving_ms(cost(2_000_000_000, 600_000, 400_000), LIMITS)
        forward, backward = 1_000_000 / 20e9, 2_000_000 / 10e9
        assert moving["inference"] == pytest.approx(1e3 * forward)
        assert moving["training"] == pytest.approx(1e3 * (forward + backward))

    def test_float64_has_half_the_peak(self) -> None:
        assert limits.floor_ms(cost(2_000_000_000, 1, 1), LIMITS, dtype="float64") == pytest.approx(40.0)

    @pytest.mark.parametrize(
        ("size", "rate"), [(10, 80e9), (1000, 80e9), (10_000, 40e9), (100_000, 20e9), (10**9, 20e9)]
    )
    def test_copy_rates_between_two_sizes_lie_on_a_line_in_logarithms(self, size: int, rate: float) -> None:
        assert LIMITS.copy_rate(size) == pytest.approx(rate)

    def test_the_better_of_two_measurements_is_taken_size_by_size(self) -> None:
        other = limits.Limits(64, 90e9, ((1000, 100e9), (100_000, 10e9)), ((1000, 70e9), (100_000, 30e9)))
        better = limits.Limits(64, 100e9, ((1000, 100e9), (100_000, 20e9)), ((1000, 90e9), (100_000, 30e9)))
        assert LIMITS.better(other) == other.better(LIMITS) == better

    def test_the_output_of_the_c_program_is_understood(self) -> None:
        rates = {
            name: [{"bytes": 64, "bytes_per_second": rate}] for name, rate in (("copy", 7), ("gradients", 8))
        }
        output = json.dumps({"vector_bytes": 32, "peak_flops": 5} | rates)
        assert limits.parse(output) == limits.Limits(32, 5, ((64, 7),), ((64, 8),))


class TestData:
    CASE = Case(6, 5, 3, (3, 2), (2, 1), multiplier=2, batch=2)

    def test_numbers_are_reproducible_and_of_the_right_shapes(self) -> None:
        first, again = data.draw(self.CASE, 1), data.draw(self.CASE, 1)
        for name, array in first.items():
            np.testing.assert_array_equal(array, again[name])
        assert {name: array.shape for name, array in first.items()} == {
            "x": (2, 6, 5, 3),
            "kernel": (3, 2, 3, 2),
            "bias": (6,),
            "dy": (2, 3, 5, 6),
        }

    def test_no_preactivation_is_near_the_kink_of_the_relu(self) -> None:
        wide = replace(self.CASE, channels=64)
        inputs = data.draw(wide, 0)
        z = reference.preactivation(inputs["x"], inputs["kernel"], inputs["bias"], wide.spec)
        assert np.abs(z).min() >= 1 / 128

    def test_checked_channels_include_the_first_and_the_last(self) -> None:
        wide = Case(112, 112, 1024, (11, 11), batch=16)
        channels = data.sampled_channels(wide)
        assert (channels[0], channels[-1]) == (0, 1023)
        assert len(channels) < 1024
        np.testing.assert_array_equal(data.sampled_channels(self.CASE), [0, 1, 2])

    def test_right_results_pass_and_each_wrong_one_is_named(self, tmp_path: Path) -> None:
        data.save(self.CASE, 1, tmp_path)
        truth = data.truth(self.CASE, data.draw(self.CASE, 1), np.arange(3))
        right = tuple(truth[name].astype(np.float32) for name in data.OUTPUTS)
        assert data.check(self.CASE, tmp_path, right) <= data.TOLERANCE["float32"]
        assert data.check(self.CASE, tmp_path, right[:1]) <= data.TOLERANCE["float32"]
        for index, name in enumerate(data.OUTPUTS):
            for spoil in (0.01, math.nan):
                wrong = [array.copy() for array in right]
                wrong[index].flat[-1] += spoil
                with pytest.raises(ValueError, match=f"^{name}: off by"):
                    data.check(self.CASE, tmp_path, tuple(wrong))

    def test_a_result_of_another_shape_is_wrong(self, tmp_path: Path) -> None:
        data.save(self.CASE, 1, tmp_path)
        with pytest.raises(ValueError, match="y: expected shape"):
            data.check(self.CASE, tmp_path, (np.zeros((2, 3, 4, 6)),))

    def test_torch_weights_go_there_and_back(self) -> None:
        inputs = data.draw(self.CASE, 2)
        problem = Problem(self.CASE, **inputs, threads=1)
        weight = problem.torch_weight
        assert weight.shape == (6, 1, 3, 2)
        np.testing.assert_array_equal(weight[2 * 2 + 1, 0], inputs["kernel"][:, :, 2, 1])
        np.testing.assert_array_equal(from_torch_weight(weight, 2), inputs["kernel"])
