"""`depthwise apply`: images in, kernels of all kinds, pictures and arrays out, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

import depthwise
from depthwise.cli.kernels import BUILTIN, load_kernel

Run: TypeAlias = Callable[..., str]
ValuesOf: TypeAlias = Callable[..., Any]

HEIGHT, WIDTH = 24, 31  # of the fixture `pixels`


@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("name", BUILTIN)
def test_named_kernels_agree_with_scipy_on_every_channel(
    values_of: ValuesOf, picture: Path, pixels: NDArray[np.uint8], name: str, multiplier: int
) -> None:
    values = values_of(picture, "--kernel", name, "--padding", "same", "--multiplier", multiplier)
    kernel = BUILTIN[name](multiplier).astype(np.float64)
    assert values.dtype == np.float32
    assert values.shape == (HEIGHT, WIDTH, 3 * multiplier)
    for channel in range(3):
        for m in range(multiplier):
            expected = ndimage.correlate(pixels[:, :, channel] / 255, kernel[:, :, m], mode="constant")
            np.testing.assert_allclose(values[:, :, channel * multiplier + m], expected, atol=2e-5)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ("", {}),
        ("--stride 2", {"strides": 2}),
        ("--stride 2,1", {"strides": (2, 1)}),
        ("--dilation 1,2", {"dilation_rate": (1, 2)}),
        ("--stride 3,2 --dilation 2", {"strides": (3, 2), "dilation_rate": 2}),
        ("--padding valid", {"padding": "valid"}),
        ("--padding SAME", {"padding": "same"}),
        ("--padding 2", {"padding": 2}),
        ("--padding 0,3", {"padding": (0, 3)}),
        ("--padding 1,2,3,4", {"padding": ((1, 2), (3, 4))}),
        ("--activation relu", {"activation": "relu"}),
        ("--activation leaky_relu:0.5", {"activation": ("leaky_relu", 0.5)}),
    ],
)
def test_options_mean_what_the_arguments_of_the_library_mean(
    values_of: ValuesOf, picture: Path, pixels: NDArray[np.uint8], options: str, arguments: dict[str, Any]
) -> None:
    values = values_of(picture, "--kernel", "sobel", *options.split())
    x = pixels[None].astype(np.float32) / np.float32(255)
    expected = depthwise.depthwise_conv2d(x, load_kernel("sobel", 3, None), **arguments)
    np.testing.assert_array_equal(values, expected[0])


def test_kernel_files_of_two_and_three_dimensions_are_repeated_over_the_channels(
    values_of: ValuesOf, picture: Path
) -> None:
    full = np.random.default_rng(3).standard_normal((3, 2, 3, 4))
    full[:, :, 1:] = full[:, :, :1]
    file = picture.with_name("kernel.npy")
    results = []
    for kernel in (full, full[:, :, 0], full[:, :, 0, 0]):
        np.save(file, kernel)
        results.append(values_of(picture, "--kernel", file))
    np.testing.assert_array_equal(results[1], results[0])
    # Other kernels run where there is one channel of output for each of input, and sum in another order.
    np.testing.assert_allclose(results[2], results[0][:, :, ::4], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(
        values_of(picture, "--kernel", file, "--multiplier", 2), np.repeat(results[2], 2, axis=2)
    )


@pytest.mark.parametrize(
    ("mode", "channels"),
    [
        ("1", 1),
        ("L", 1),
        ("LA", 2),
        ("P", 3),
        ("RGB", 3),
        ("RGBA", 4),
        ("CMYK", 3),
        ("I;16", 1),
        ("F", 1),
    ],
)
def test_every_kind_of_image_is_read_into_0_to_1(
    values_of: ValuesOf, tmp_path: Path, pixels: NDArray[np.uint8], mode: str, channels: int
) -> None:
    pixels[:2] = [[[0]], [[255]]]  # black and white survive every conversion
    path = tmp_path / "image.tiff"
    if mode == "I;16":
        Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257).save(path)
    elif mode == "LA":
        path = tmp_path / "image.png"
        Image.fromarray(pixels[:, :, :2]).save(path)
    elif mode == "RGBA":
        Image.fromarray(np.dstack([pixels, pixels[:, :, 0]])).save(path)
    else:
        Image.fromarray(pixels).convert(mode).save(path)
    file = tmp_path / "identity.npy"
    np.save(file, np.ones((1, 1)))
    values = values_of(path, "--kernel", file)
    assert values.shape == (HEIGHT, WIDTH, channels)
    assert (values.min(), values.max()) == (0, 1)
    if mode in ("RGB", "RGBA"):
        np.testing.assert_allclose(values[:, :, :3], pixels / 255, atol=1e-6)
    if mode in ("LA", "I;16"):
        np.testing.assert_allclose(values[:, :, 0], pixels[:, :, 0] / 255, atol=1e-6)


def test_camera_orientation_is_applied(values_of: ValuesOf, picture: Path, pixels: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the right
    Image.fromarray(pixels).save(picture, exif=exif)
    assert values_of(picture, "--kernel", "blur", "--padding", "same").shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_identity_gives_the_same_picture_back(run: Run, tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)
    image, kernel, out = tmp_path / "in.png", tmp_path / "identity.npy", tmp_path / "out.png"
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(image)
    np.save(kernel, np.ones((1, 1)))
    run("apply", image, "--kernel", kernel, "--out", out)
    np.testing.assert_array_equal(np.asarray(Image.open(out)).reshape(pixels.shape), pixels)


def test_the_identity_keeps_all_16_bits(run: Run, tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).integers(0, 65536, (HEIGHT, WIDTH), np.uint16)
    image, kernel, out = tmp_path / "in.png", tmp_path / "identity.npy", tmp_path / "out.png"
    Image.fromarray(pixels).save(image)
    np.save(kernel, np.ones((1, 1)))
    run("apply", image, "--kernel", kernel, "--out", out)
    np.testing.assert_array_equal(np.asarray(Image.open(out)), pixels)


def test_signed_results_have_zero_as_mid_grey_and_no_transparency(run: Run, tmp_path: Path) -> None:
    pixels = np.full((HEIGHT, WIDTH, 4), 200, np.uint8)
    pixels[:, WIDTH // 2 :] = 20
    image, out = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(pixels).save(image)
    run("apply", image, "--kernel", "sobel", "--out", out)
    painted = np.asarray(Image.open(out))
    assert painted.shape == (HEIGHT - 2, WIDTH - 2, 3)
    assert (painted[:, 0] == 128).all()
    assert (painted[:, WIDTH // 2 - 2] == 0).all()


@pytest.mark.parametrize(("multiplier", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2)])
def test_results_of_a_multiplier_stand_in_a_grid(
    run: Run, values_of: ValuesOf, picture: Path, multiplier: int, columns: int, rows: int
) -> None:
    out = picture.with_name("grid.png")
    options = ("--kernel", "emboss", "--padding", "same", "--multiplier", multiplier)
    run("apply", picture, "--out", out, *options)
    painted = np.asarray(Image.open(out))
    assert painted.shape == (rows * (HEIGHT + 2) - 2, columns * (WIDTH + 2) - 2, 3)
    values = values_of(picture, *options).reshape(HEIGHT, WIDTH, 3, multiplier)
    last = np.round(np.clip(values[..., -1], 0, 1) * 255)
    top, left = (HEIGHT + 2) * (rows - 1), (WIDTH + 2) * ((multiplier - 1) % columns)
    np.testing.assert_array_equal(painted[top : top + HEIGHT, left : left + WIDTH], last)


def test_json_describes_the_result(run: Run, picture: Path) -> None:
    out = picture.with_name("out.png")
    document = json.loads(
        run("apply", picture, "--kernel", "sobel", "--multiplier", 2, "--out", out, "--json")
    )
    assert document["input_shape"] == [1, HEIGHT, WIDTH, 3]
    assert document["kernel_shape"] == [3, 3, 3, 2]
    assert document["output_shape"] == [1, HEIGHT - 2, WIDTH - 2, 6]
    assert document["minimum"] < 0 < document["maximum"]
    assert document["shades"]["black"] == -document["shades"]["white"]
    assert document["out"] == str(out)


def test_json_stays_json_when_values_are_not_numbers(run: Run, tmp_path: Path) -> None:
    image = tmp_path / "in.tiff"
    Image.fromarray(np.full((5, 5), np.nan, np.float32)).save(image)
    document = json.loads(run("apply", image, "--kernel", "sobel", "--out", tmp_path / "out.png", "--json"))
    assert document["minimum"] is document["maximum"] is None


def test_the_default_output_is_named_after_image_and_kernel(
    run: Run, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert "wrote picture-blur.png" in run("apply", picture, "--kernel", "blur")
    assert [path.name for path in folder.iterdir()] == ["picture-blur.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--kernel blur --stride 0", "strides: expected a positive integer"),
        ("--kernel blur --stride x", "--stride: expected an integer or a pair"),
        ("--kernel blur --dilation 1,2,3", "--dilation: expected an integer or a pair"),
        (
            "--kernel blur --dilation 100",
            "kernel_size: expected a dilated kernel no larger than the padded",
        ),
        ("--kernel blur --padding causal", "padding: expected 'valid', 'same'"),
        ("--kernel blur --padding -1", "padding: expected 'valid', 'same'"),
        ("--kernel blur --padding 1,2,3", "--padding: expected valid, same"),
        ("--kernel blur --activation swoosh", "activation: expected one of"),
        ("--kernel blur --activation elu:steep", "--activation: expected NAME or NAME:ALPHA"),
        ("--kernel blur --multiplier 0", "--multiplier: expected an integer of at least 1"),
        (
            "--kernel blurr",
            "--kernel: expected one of sobel, blur, sharpen, emboss, gabor or a .npy file",
        ),
        ("--kernel missing.npy", "--kernel: cannot read missing.npy"),
        ("--kernel two-channels.npy", "for 2 channels; the image has 3"),
        ("--kernel vector.npy", "--kernel: expected vector.npy to hold shape"),
        ("--kernel complex.npy", "--kernel: expected complex.npy to hold an array of real numbers"),
        (
            "--kernel three.npy --multiplier 2",
            "--multiplier: three.npy has shape (3, 3, 3, 3), M = 3; got 2",
        ),
    ],
)
@pytest.mark.parametrize("existed", [False, True])
def test_errors_are_one_line_and_leave_the_output_as_it_was(
    fail: Run, picture: Path, monkeypatch: pytest.MonkeyPatch, options: str, message: str, existed: bool
) -> None:
    monkeypatch.chdir(picture.parent)
    np.save("two-channels.npy", np.ones((3, 3, 2, 1)))
    np.save("vector.npy", np.ones(3))
    np.save("complex.npy", np.ones((3, 3), np.complex64))
    np.save("three.npy", np.ones((3, 3, 3)))
    out = Path("out.png")
    if existed:
        out.write_text("as it was", encoding="utf-8")
    before = sorted(Path().iterdir())
    assert message in fail("apply", picture.name, "--out", out, *options.split())
    assert sorted(Path().iterdir()) == before
    assert not existed or out.read_text(encoding="utf-8") == "as it was"


@pytest.mark.parametrize(
    ("image", "out", "message"),
    [
        ("missing.png", "out.png", "cannot read missing.png: No such file"),
        ("notes.txt", "out.png", "cannot read notes.txt: not an image file"),
        ("half.png", "out.png", "cannot read half.png: "),
        ("picture.png", "out.gif", "--out: expected a file name that ends in .png or .npy"),
        ("picture.png", "picture.png", "--out: picture.png is the image itself"),
        ("picture.png", "missing/out.png", "cannot write missing/out.png: No such file"),
    ],
)
def test_files_that_cannot_be_read_or_written_are_named(
    fail: Run, picture: Path, monkeypatch: pytest.MonkeyPatch, image: str, out: str, message: str
) -> None:
    monkeypatch.chdir(picture.parent)
    whole = picture.read_bytes()
    Path("half.png").write_bytes(whole[: len(whole) // 2])
    Path("notes.txt").write_text("no picture", encoding="utf-8")
    before = sorted(Path().iterdir())
    assert message in fail("apply", image, "--kernel", "blur", "--out", out)
    assert sorted(Path().iterdir()) == before
    assert picture.read_bytes() == whole
