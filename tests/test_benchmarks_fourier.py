"""Kernels of this package and by way of transforms: both compute the same; nothing here times anything."""

from __future__ import annotations

import pytest

pytest.importorskip("rich")

from benchmarks import fourier


@pytest.mark.parametrize(
    ("least", "length"), [(1, 2), (2, 2), (11, 12), (13, 14), (22, 24), (86, 90), (121, 126)]
)
def test_lengths_are_even_and_of_small_factors(least: int, length: int) -> None:
    assert fourier.fast_length(least) == length


@pytest.mark.parametrize(("size", "kernel"), [(8, 3), (7, 13)])
def test_every_way_is_there_once_the_results_are_alike(size: int, kernel: int) -> None:
    pytest.importorskip("torch")
    found = fourier.programs(size, 5, kernel)
    assert list(found) == ["ours", "both transforms", "the image's"]
    for run in found.values():
        run()
