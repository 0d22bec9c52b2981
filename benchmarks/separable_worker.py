"""The process that a matrix multiplication runs in: `python -m benchmarks.separable_worker numpy|torch THREADS`.

Requests and answers are JSON, one a line, as those of `benchmarks.worker`:

    {"do": "hello"}                                           -> {"versions": {...}}
    {"do": "load", "layer": [56, 1, 128, 128], "rows": [4]}   -> {"programs": ["depthwise", "pointwise", ...]}
    {"do": "time", "what": "pointwise", "seconds": 0.2}       -> {"ms": 0.31, "calls": 310}

`numpy` has our layer and NumPy's own `matmul`, alone and together; `torch` has only the multiplication.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import depthwise
from benchmarks.data import aligned
from benchmarks.worker import median_ms, serve
from depthwise.spec import Spec

KERNEL = 3

Array = NDArray[Any]
Run = Callable[[], Any]


class Layer(NamedTuple):
    """A 3x3 depthwise convolution with "same" padding on one square image, and the pointwise one after it.

    Attributes:
        size: height and width of the image.
        stride: of the depthwise convolution, along both axes.
        channels: of the image.
        outputs: channels that the pointwise convolution makes.
    """

    size: int
    stride: int
    channels: int
    outputs: int

    @property
    def name(self) -> str:
        """E.g. 112x112x64-s2-128."""
        stride = f"-s{self.stride}" if self.stride != 1 else ""
        return f"{self.size}x{self.size}x{self.channels}{stride}-{self.outputs}"

    @property
    def spec(self) -> Spec:
        """The depthwise convolution's arguments."""
        return Spec((KERNEL, KERNEL), strides=self.stride, padding="same", activation="relu", use_bias=True)

    @property
    def rows(self) -> int:
        """Rows, and columns, of the output."""
        return self.spec.output_size((self.size, self.size))[0]


class Block(NamedTuple):
    """Some rows of the output, and what they are made of.

    Attributes:
        outputs: the rows.
        inputs: the rows of the image that they need.
        padding: rows of zeros above and below these.
    """

    outputs: slice
    inputs: slice
    padding: tuple[int, int]


def blocks(layer: Layer, height: int) -> list[Block]:
    """A layer's rows in blocks of so many; the last one has what is left."""
    (top, _), _ = layer.spec.padding_amounts((layer.size, layer.size))
    found = []
    for begin in range(0, layer.rows, height):
        end = min(begin + height, layer.rows)
        first, last = begin * layer.stride - top, (end - 1) * layer.stride - top + KERNEL
        inside = slice(max(0, first), min(layer.size, last))
        found.append(Block(slice(begin, end), inside, (inside.start - first, last - inside.stop)))
    return found


def draw(layer: Layer) -> dict[str, Array]:
    """Image, weights, and memory for what the two convolutions make, all float32 and beginning on cache lines."""
    random = np.random.default_rng(0)
    rows, channels = layer.rows, layer.channels
    shapes = {
        "x": (1, layer.size, layer.size, channels),
        "kernel": (KERNEL, KERNEL, channels, 1),
        "bias": (channels,),
        "matrix": (channels, layer.outputs),
        "h": (1, rows, rows, channels),
        "y": (rows * rows, layer.outputs),
    }
    return {name: aligned(random.normal(0, 0.3, shape).astype(np.float32)) for name, shape in shapes.items()}


def separate(layer: Layer, arrays: dict[str, Array]) -> dict[str, Run]:
    """The depthwise convolution, the pointwise one on what it made, and the two after each other."""
    x, kernel, bias, matrix, h, y = arrays.values()
    pixels = h.reshape(-1, layer.channels)
    call, matmul, stride = depthwise.depthwise_conv2d, np.matmul, layer.stride

    def first() -> None:
        call(x, kernel, bias, strides=stride, padding="same", activation="relu", out=h)

    def second() -> None:
        matmul(pixels, matrix, out=y)

    def pair() -> None:
        first()
        second()

    return {"depthwise": first, "pointwise": second, "pair": pair}


def in_blocks(layer: Layer, arrays: dict[str, Array], height: int) -> Run:
    """Both convolutions on so many rows of the output at a time.

    What the first one makes of a block goes to the same memory for every block, and the second one finds it in the
    caches.
    """
    x, kernel, bias, matrix, h, y = arrays.values()
    steps = []
    for block in blocks(layer, height):
        count = block.outputs.stop - block.outputs.start
        made = h[:, :count]
        steps.append(
            (
                x[:, block.inputs],
                (block.padding, layer.spec.padding_amounts((layer.size, layer.size))[1]),
                made,
                made.reshape(-1, layer.channels),
                y[block.outputs.start * layer.rows : block.outputs.stop * layer.rows],
            )
        )
    call, matmul, stride = depthwise.depthwise_conv2d, np.matmul, layer.stride

    def run() -> None:
        for image, padding, made, pixels, results in steps:
            call(image, kernel, bias, strides=stride, padding=padding, activation="relu", out=made)
            matmul(pixels, matrix, out=results)

    return run


def numpy_programs(layer: Layer, heights: list[int]) -> dict[str, Run]:
    """Everything that NumPy and this package do.

    Raises:
        ValueError: in blocks comes out something else than in two calls.
    """
    arrays = draw(layer)
    programs = separate(layer, arrays)
    programs["pair"]()
    expected = arrays["y"].copy()
    for height in heights:
        run = in_blocks(layer, arrays, height)
        arrays["y"].fill(np.nan)
        run()
        np.testing.assert_allclose(arrays["y"], expected, rtol=1e-4, atol=1e-4)
        programs[f"rows {height}"] = run
    return programs


def torch_programs(layer: Layer) -> dict[str, Run]:
    """PyTorch's multiplication: into memory that is given, and oneDNN's on weights in its own order."""
    import torch  # noqa: TID251 -- only its matrix multiplication

    arrays = draw(layer)
    pixels, matrix, y = (torch.from_numpy(arrays[name]) for name in ("h", "matrix", "y"))
    pixels = pixels.reshape(-1, layer.channels)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def mm() -> Any:
        return torch.mm(pixels, matrix, out=y)

    programs: dict[str, Run] = {"pointwise mm": mm}
    if torch.backends.mkldnn.is_available():
        ops = torch.ops.mkldnn
        # What PyTorch's compiler emits.
        packed = ops._reorder_linear_weight(matrix.t().contiguous(), len(pixels))  # noqa: SLF001

        @torch.inference_mode()  # type: ignore[untyped-decorator]
        def linear() -> Any:
            return ops._linear_pointwise(pixels, packed, None, "none", [], "")  # noqa: SLF001

        if not torch.allclose(linear(), mm(), rtol=1e-4, atol=1e-4):
            raise ValueError(f"{layer.name}: oneDNN's product is not that of mm")
        programs["pointwise oneDNN"] = linear
    return programs


class Worker:
    """One library to multiply with, and the layer that is loaded."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self.programs: dict[str, Run] = {}
        if name == "torch":
            import torch  # noqa: TID251 -- only its matrix multiplication

            torch.set_num_threads(threads)
            self.versions = {"torch": str(torch.__version__)}
        else:
            depthwise.set_num_threads(threads)
            information = depthwise.info()
            self.versions = {
                "depthwise": information.version,
                "isa": information.isa,
                "numpy": np.__version__,
                "BLAS": blas(),
            }

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Does what a request asks for, and returns what is to be sent back."""
        match request["do"]:
            case "hello":
                return {"versions": self.versions}
            case "load":
                layer = Layer(*request["layer"])
                self.programs.clear()
                gc.collect()
                self.programs = (
                    torch_programs(layer) if self.name == "torch" else numpy_programs(layer, request["rows"])
                )
                return {"programs": list(self.programs)}
            case "time":
                milliseconds, calls = median_ms(self.programs[request["what"]], request["seconds"])
                return {"ms": milliseconds, "calls": calls}
            case unknown:
                raise ValueError(f"do: unknown request {unknown!r}")


def blas() -> str:
    """The library that NumPy multiplies matrices with, and its version."""
    configuration: Any = np.show_config(mode="dicts")
    found = configuration["Build Dependencies"]["blas"]
    return f"{found['name']} {found['version']}"


if __name__ == "__main__":
    serve(Worker)
