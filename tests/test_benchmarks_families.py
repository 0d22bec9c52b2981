"""Which family runs a layer, at the bounds of the rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

import depthwise
from benchmarks.cases import Case
from benchmarks.families import VECTOR_BYTES, family
from benchmarks.report import MEASUREMENTS
from depthwise.spec import DataFormat

FIRST = Case(9, 8, 3, (5, 5), data_format="channels_first")


class TestFewChannelsAtAStride:
    @pytest.mark.parametrize(
        ("channels", "stride", "kernel", "kind"),
        [
            (5, 3, (3, 3), "channels"),
            (4, 3, (3, 3), "pixels"),  # a quarter of a vector
            (5, 1, (3, 3), "pixels"),
            (8, 2, (3, 3), "channels"),  # 3 * 9 < 2 * (5 * 4 + 9 / 2)
            (8, 2, (5, 5), "pixels"),  # 3 * 25 > 2 * (5 * 4 + 25 / 2)
            (15, 2, (5, 5), "channels"),
        ],
    )
    def test_few_taps_read_them_in_place(
        self, channels: int, stride: int, kernel: tuple[int, int], kind: str
    ) -> None:
        case = Case(64, 64, channels, kernel, (stride, stride))
        assert family(case, "avx512", "inference") == kind
        if channels <= 8:  # only one of the rules is for these types
            assert family(replace(case, dtype="bfloat16"), "avx512", "inference") == "pixels"
            assert family(replace(case, multiplier=2, channels=4), "avx512", "inference") == "pixels"


class TestTraining:
    @pytest.mark.parametrize(
        ("channels", "multiplier", "dtype", "isa", "kind"),
        [
            (6, 1, "float32", "avx512", "channels"),
            (5, 1, "float32", "avx512", "columns"),
            (5, 1, "float32", "avx2", "channels"),
            (2, 3, "float16", "avx512", "channels"),
            (3, 1, "float64", "avx512", "channels"),
            (2, 1, "float64", "avx512", "columns"),
            (1, 1, "float64", "neon", "channels"),
        ],
    )
    def test_a_third_of_a_vector_of_output_channels_goes_to_the_channels_family(
        self, channels: int, multiplier: int, dtype: str, isa: str, kind: str
    ) -> None:
        case = Case(9, 9, channels, (3, 3), multiplier=multiplier, dtype=dtype)
        assert family(case, isa, "training") == kind

    def test_channels_first_images_of_few_channels_or_a_multiplier_go_to_the_columns_family(self) -> None:
        wide = Case(46, 46, 15, (3, 3), data_format="channels_first")
        assert family(wide, "avx512", "training") == "columns"
        for channels, multiplier, kind in ((15, 1, "columns"), (16, 1, "channels"), (64, 2, "columns")):
            case = replace(wide, channels=channels, multiplier=multiplier)
            assert family(case, "avx512", "training") == kind

    @pytest.mark.parametrize(
        ("width", "channels", "stride", "kernel", "kind"),
        [
            (
                48,
                40,
                1,
                (3, 3),
                "columns",
            ),  # 40 channels in 3 vectors: 0.83 of the lanes, all along 48 columns
            (48, 44, 1, (3, 3), "channels"),  # 0.92
            (48, 40, 1, (8, 8), "channels"),
            (48, 40, 2, (3, 3), "channels"),
            (64, 17, 2, (3, 3), "channels"),  # 0.53 of the lanes and all: not enough at stride 2
            (48, 17, 1, (8, 3), "columns"),
        ],
    )
    def test_channels_first_images_go_where_vectors_are_fuller(
        self, width: int, channels: int, stride: int, kernel: tuple[int, int], kind: str
    ) -> None:
        case = Case(48, width, channels, kernel, (stride, stride), data_format="channels_first")
        assert family(case, "avx512", "training") == kind

    @pytest.mark.parametrize(
        ("width", "channels", "stride", "kernel", "kind"),
        [
            (24, 16, 1, (3, 3), "channels"),  # short rows
            (24, 15, 1, (3, 3), "columns"),
            (10, 12, 1, (3, 3), "channels"),
            (10, 11, 1, (3, 3), "columns"),
            (30, 16, 1, (3, 3), "columns"),  # 32 lanes for 30 columns
            (29, 16, 1, (3, 3), "channels"),
            (30, 16, 1, (4, 4), "channels"),  # many taps
            (35, 17, 1, (4, 4), "columns"),
            (60, 34, 2, (3, 3), "columns"),  # the stride does not count
        ],
    )
    def test_channels_first_images_with_a_multiplier_need_short_rows_or_full_vectors(
        self, width: int, channels: int, stride: int, kernel: tuple[int, int], kind: str
    ) -> None:
        case = Case(20, width, channels, kernel, (1, stride), multiplier=2, data_format="channels_first")
        assert family(case, "avx512", "training") == kind

    @pytest.mark.parametrize(
        ("isa", "dtype", "width", "kind"),
        [
            ("avx512", "float32", 50, "channels"),
            ("avx512", "bfloat16", 50, "channels"),
            ("avx512", "float64", 50, "columns"),
            ("avx512", "float64", 12, "channels"),
            ("avx2", "float32", 50, "channels"),
            ("baseline", "float32", 50, "columns"),
            ("baseline", "float32", 6, "channels"),
            ("neon", "float32", 50, "columns"),
        ],
    )
    def test_long_rows_need_repetition_on_loading(self, isa: str, dtype: str, width: int, kind: str) -> None:
        case = Case(20, width, 16, (3, 3), multiplier=2, data_format="channels_first", dtype=dtype)
        assert family(case, isa, "training") == kind

    @pytest.mark.parametrize(
        ("channels", "width", "kernel", "stride", "kind"),
        [
            (8, 10, (3, 3), 1, "channels"),  # 10 columns leave more than a third of a vector empty
            (8, 11, (3, 3), 1, "columns"),
            (7, 10, (3, 3), 1, "columns"),
            (8, 96, (3, 3), 3, "channels"),
            (12, 46, (8, 8), 1, "channels"),
            (11, 46, (8, 8), 1, "columns"),
            (12, 46, (9, 7), 1, "columns"),
        ],
    )
    def test_narrow_planes_wide_strides_and_many_taps_need_fewer(
        self, channels: int, width: int, kernel: tuple[int, int], stride: int, kind: str
    ) -> None:
        case = Case(20, width, channels, kernel, (stride, stride), data_format="channels_first")
        assert family(case, "avx512", "training") == kind

    @pytest.mark.parametrize(
        ("size", "kernel", "kind"),
        [
            # In vectors along columns and along rows, whose padding counts:
            ((128, 3), (3, 3), "columns"),  # 24 and 40
            ((128, 6), (3, 3), "channels"),  # 48 and 64
            ((128, 16), (3, 3), "columns"),  # full rows stay
            ((40, 9), (1, 1), "channels"),
        ],
    )
    def test_narrow_planes_that_are_turned_are_none(
        self, size: tuple[int, int], kernel: tuple[int, int], kind: str
    ) -> None:
        case = Case(*size, 8, kernel, data_format="channels_first")
        assert family(case, "avx512", "training") == kind

    @pytest.mark.parametrize(("rate", "kind"), [(96, "columns"), (97, "channels")])
    def test_dilations_out_of_proportion_do_not(self, rate: int, kind: str) -> None:
        # 2 * 96 is 16 times the image's 9 rows and the kernel's 3.
        case = replace(FIRST, kernel=(3, 1), dilation=(rate, 1), padding=((rate, rate), (0, 0)))
        assert family(case, "avx512", "training") == kind

    def test_every_instruction_set_has_a_vector(self) -> None:
        assert set(depthwise.info().compiled_isas) <= set(VECTOR_BYTES)


class TestInference:
    @pytest.mark.parametrize(
        ("channels", "multiplier", "stride", "dtype", "isa", "kind"),
        [
            (10, 1, 1, "float32", "avx512", "pixels"),
            (11, 1, 1, "float32", "avx512", "channels"),
            (8, 1, 2, "float32", "avx512", "pixels"),
            (9, 1, 2, "float32", "avx512", "channels"),
            (2, 4, 2, "bfloat16", "avx512", "pixels"),
            (5, 1, 1, "float64", "avx512", "pixels"),
            (5, 1, 1, "float32", "avx2", "pixels"),
            (5, 1, 2, "float32", "avx2", "channels"),
            (2, 1, 2, "float32", "neon", "pixels"),
        ],
    )
    def test_half_of_a_vector_of_output_channels_goes_to_the_pixels_family(
        self, channels: int, multiplier: int, stride: int, dtype: str, isa: str, kind: str
    ) -> None:
        case = Case(9, 9, channels, (5, 5), (1, stride), multiplier=multiplier, dtype=dtype)
        assert family(case, isa, "inference") == kind
        assert family(case, isa, "training") != "pixels"
        assert family(replace(case, data_format="channels_first"), isa, "inference") != "pixels"

    @pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
    def test_one_tap_goes_to_the_scale_family(self, layout: DataFormat) -> None:
        case = replace(FIRST, kernel=(1, 1), data_format=layout)
        for scaled in (
            case,
            replace(case, strides=(2, 3)),
            replace(case, multiplier=2),
            replace(case, padding=((0, 0), (0, 0))),
            replace(case, channels=1031),
        ):
            assert family(scaled, "avx2", "inference") == "scale"
            assert family(scaled, "avx2", "training") != "scale"
        for other in (replace(case, kernel=(1, 2)), replace(case, padding=((0, 0), (1, 0)))):
            assert family(other, "avx2", "inference") != "scale"

    @pytest.mark.parametrize(
        ("channels", "multiplier", "kind"), [(16, 1, "channels"), (15, 1, "scale"), (16, 2, "scale")]
    )
    def test_columns_apart_with_channels_for_a_vector_do_not(
        self, channels: int, multiplier: int, kind: str
    ) -> None:
        case = Case(9, 8, channels, (1, 1), (1, 2), multiplier=multiplier)
        assert family(case, "avx512", "inference") == kind
        assert family(replace(case, data_format="channels_first"), "avx512", "inference") == "scale"

    @pytest.mark.parametrize(
        ("width", "channels", "kernel", "stride", "dtype", "isa", "kind"),
        [
            (32, 64, (3, 3), 1, "float32", "avx512", "columns"),
            (32, 64, (3, 3), 1, "float32", "avx2", "columns"),
            (32, 64, (3, 3), 1, "float64", "avx512", "columns"),
            (32, 64, (3, 3), 1, "float16", "avx512", "channels"),
            (32, 64, (3, 3), 1, "float32", "baseline", "channels"),
            (32, 64, (7, 3), 1, "float32", "avx512", "columns"),
            (32, 64, (8, 3), 1, "float32", "avx512", "channels"),
            (32, 64, (3, 5), 1, "float32", "avx512", "columns"),
            (32, 64, (3, 4), 1, "float32", "avx2", "channels"),
            (32, 64, (2, 6), 1, "float32", "avx512", "channels"),
            (32, 64, (4, 5), 1, "float32", "avx512", "channels"),
            (32, 64, (1, 7), 1, "float32", "avx512", "columns"),
            (32, 64, (1, 8), 1, "float32", "avx512", "channels"),
            (32, 64, (5, 5), 1, "float32", "avx512", "columns"),
            (32, 64, (5, 5), 1, "float32", "avx2", "channels"),
            (32, 64, (7, 5), 1, "float32", "avx512", "channels"),
            (32, 64, (3, 3), (2, 2), "float32", "avx512", "columns"),
            (32, 64, (5, 5), (2, 2), "float64", "avx512", "columns"),
            (30, 64, (3, 3), (2, 2), "float32", "avx512", "channels"),
            (64, 64, (3, 3), (1, 2), "float32", "avx512", "channels"),
            (64, 64, (3, 3), (2, 1), "float32", "avx512", "channels"),
            (64, 64, (3, 3), (3, 1), "float32", "avx512", "columns"),
            (96, 64, (3, 3), (3, 3), "float32", "avx512", "columns"),
            (84, 64, (3, 3), (3, 3), "float32", "avx512", "columns"),
            (72, 64, (3, 3), (3, 3), "float32", "avx512", "channels"),
            (96, 64, (3, 3), (3, 3), "float32", "avx2", "channels"),
            (96, 64, (3, 3), (3, 3), "float64", "avx512", "columns"),
            (96, 64, (4, 4), (4, 4), "float32", "avx512", "channels"),
            (17, 64, (3, 3), 1, "float32", "avx512", "columns"),
            (17, 64, (5, 5), 1, "float32", "avx512", "channels"),
            (24, 64, (5, 5), 1, "float32", "avx512", "columns"),
            (21, 128, (5, 5), 1, "float32", "avx512", "channels"),
            (15, 64, (3, 3), 1, "float32", "avx512", "channels"),
        ],
    )
    def test_few_taps_in_a_row_read_planes_in_place(
        self,
        width: int,
        channels: int,
        kernel: tuple[int, int],
        stride: int | tuple[int, int],
        dtype: str,
        isa: str,
        kind: str,
    ) -> None:
        strides = stride if isinstance(stride, tuple) else (stride, stride)
        case = Case(99, width, channels, kernel, strides, "same", data_format="channels_first", dtype=dtype)
        assert family(case, isa, "inference") == kind
        assert family(replace(case, data_format="channels_last"), isa, "inference") == "channels"
        assert family(case, isa, "training") == "channels"

    @pytest.mark.parametrize(
        ("height", "width", "kind"),
        [(3, 32, "columns"), (2, 32, "channels"), (12, 20, "columns"), (11, 20, "channels")],
    )
    def test_planes_of_few_rows_need_fuller_ones(self, height: int, width: int, kind: str) -> None:
        case = Case(height, width, 64, (3, 3), data_format="channels_first")
        assert family(case, "avx512", "inference") == kind

    @pytest.mark.parametrize(
        ("width", "channels", "kernel", "kind"),
        [
            (64, 64, (6, 6), "columns"),
            (64, 64, (5, 7), "channels"),
            (64, 64, (1, 40), "channels"),
            (61, 64, (7, 7), "columns"),  # 64 lanes for 61 columns
            (60, 64, (7, 7), "channels"),
            (15, 64, (7, 7), "channels"),
            (16, 64, (7, 7), "columns"),
        ],
    )
    def test_many_adjacent_taps_go_along_columns_that_are_as_full(
        self, width: int, channels: int, kernel: tuple[int, int], kind: str
    ) -> None:
        case = Case(20, width, channels, kernel, data_format="channels_first")
        assert family(case, "avx512", "inference") == kind
        assert family(case, "avx512", "training") == "channels"
        for other in (
            replace(case, dilation=(1, 2)),
            replace(case, strides=(2, 2), width=2 * width, height=40),
            replace(case, multiplier=2),
            replace(case, data_format="channels_last"),
        ):
            assert family(other, "avx512", "inference") == family(other, "avx512", "training")

    def test_what_neither_takes_goes_where_training_goes(self) -> None:
        for case in (Case(9, 8, 32, (3, 3)), FIRST):
            assert len({family(case, "avx512", what) for what in MEASUREMENTS}) == 1
