"""
The compiled op. Use it through depthwise.ops; this module checks nothing.
"""

from typing import Any

version: str = ...

class Plan:
    """A call's sizes and options, without its arrays."""

    def __init__(
        self,
        batch: int,
        channels: int,
        multiplier: int,
        input_size: tuple[int, int],
        output_size: tuple[int, int],
        kernel_size: tuple[int, int],
        strides: tuple[int, int],
        dilation: tuple[int, int],
        padding_before: tuple[int, int],
        dtype: int,
        channels_first: bool,
        activation: int,
        alpha: float,
    ) -> None: ...
    def kernel_name(self, backward: bool) -> str:
        """
        Kernel of the instruction set in use that runs the forward pass, or the gradients.
        """

    def forward(
        self, x: object, kernel: object, bias: object | None, y: object, preactivation: object | None
    ) -> None:
        """
        Write activation(conv(x, kernel) + bias) to y, and what it is taken of to preactivation.
        """

    def forward_apart(self, x: object, kernel: object, bias: object | None, y: object) -> bool:
        """
        forward() without preactivation and True, or False and nothing done if y might overlap an input.
        """

    def backward(
        self,
        x: object,
        kernel: object,
        dy: object,
        saved: object | None,
        dx: object | None,
        dkernel: object | None,
        dbias: object | None,
    ) -> None:
        """Write the gradients that are not None."""

    def backward_plain(
        self,
        x: object,
        kernel: object,
        dy: object | None,
        saved: object | None,
        dx: object | None,
        dkernel: object | None,
        dbias: object | None,
    ) -> bool:
        """
        backward() and True, or False and nothing done if dy or a gradient needs a closer look.
        """

    def forward_at(
        self,
        x: tuple[int, int, int, int, int],
        kernel: tuple[int, int, int, int, int],
        bias: int,
        y: tuple[int, int, int, int, int],
        preactivation: tuple[int, int, int, int, int],
    ) -> None:
        """
        The same on addresses, each with its strides (csrc/bindings/python.cc).
        """

    def backward_at(
        self,
        x: tuple[int, int, int, int, int],
        kernel: tuple[int, int, int, int, int],
        dy: tuple[int, int, int, int, int],
        saved: tuple[int, int, int, int, int],
        dx: tuple[int, int, int, int, int],
        dkernel: tuple[int, int, int, int, int],
        dbias: int,
    ) -> None:
        """The same on addresses."""

class Recent:
    """Calls that were made before, by their arguments."""

    def __init__(self) -> None: ...
    def forward(
        self,
        x: object,
        kernel: object,
        bias: object | None,
        strides: object,
        padding: object,
        data_format: object,
        dilation_rate: object,
        activation: object | None,
        out: object | None,
    ) -> Any:
        """
        The call into `out`, and what was remembered with it; None and nothing done if it is not known or unusual.
        """

    def remember(
        self,
        known: object,
        plan: Plan,
        x: object,
        kernel: object,
        bias: object | None,
        strides: object,
        padding: object,
        data_format: object,
        dilation_rate: object,
        activation: object | None,
        out: object,
    ) -> None:
        """Keep a call whose arguments have been checked."""

def bytes_to_multiple(array: object, alignment: int) -> int:
    """
    How many bytes into an array's memory the next multiple of `alignment` lies.
    """

def isa() -> str:
    """Instruction set in use."""

def set_isa(name: str) -> bool:
    """Use another instruction set; False if it is unknown or not supported."""

def compiled_isas() -> list[str]: ...
def supported_isas() -> list[str]: ...
def kernel_names() -> list[str]:
    """Kernels of the instruction set in use."""

def cpu_features() -> str: ...
def num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...
def use_openmp(parallel: int, max_threads: int, in_parallel: int) -> None:
    """
    Have calls on addresses run on the threads of an OpenMP library with these functions.
    """
