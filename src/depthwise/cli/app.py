"""The commands: options in, the library called, tables or JSON out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import depthwise
from depthwise.arguments import ARGUMENTS
from depthwise.cli.errors import EXIT_USAGE, CliError, explain_missing_extra, library_errors
from depthwise.cli.parsing import parse_activation, parse_padding, parse_pair, parse_shape
from depthwise.spec import DTYPES, Spec

__all__ = ["app"]

_HELP = {argument.name: argument.help for argument in ARGUMENTS}
_CHOICES = {argument.name: argument.choices for argument in ARGUMENTS}


class _Commands(TyperGroup):
    """Reports what can be told in one line as one line; everything else is a bug and keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CliError as error:
            typer.echo(f"depthwise: error: {error}", err=True)
        except ModuleNotFoundError as error:
            message = explain_missing_extra(error)
            if message is None:
                raise
            typer.echo(message, err=True)
        raise typer.Exit(EXIT_USAGE)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Depthwise 2-D convolution: try it on images, count what it costs, see what it runs on.",
)

Stride = Annotated[str, typer.Option("--stride", metavar="N|H,W", help=_HELP["strides"])]
Dilation = Annotated[str, typer.Option("--dilation", metavar="N|H,W", help=_HELP["dilation_rate"])]
PaddingOption = Annotated[
    str, typer.Option("--padding", metavar="valid|same|N|H,W|T,B,L,R", help=_HELP["padding"])
]
ActivationOption = Annotated[
    str | None,
    typer.Option(
        "--activation",
        metavar="NAME[:ALPHA]",
        help=f"{_HELP['activation']} One of {', '.join(_CHOICES['activation'])}.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout instead.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"depthwise {depthwise.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    del version  # its callback has done everything


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="FILE.png", help="Where the picture goes.")] = Path(
        "depthwise-demo.png"
    ),
    json: Json = False,
) -> None:
    """Convolve a photograph with a bank of kernels: a picture, and time and accuracy next to NumPy and SciPy."""
    from depthwise.cli.demo import ROUTES, bank, load_photo, measure
    from depthwise.cli.images import written_atomically
    from depthwise.cli.picture import draw
    from depthwise.cli.report import demo_tables, print_json, print_tables, progress_steps

    if out.suffix.lower() != ".png":
        raise CliError(f"--out: expected a file name that ends in .png, got {str(out)!r}")
    photo, filters = load_photo(), bank()
    with progress_steps(len(filters) * len(ROUTES) + 1) as steps, written_atomically(out) as file:
        measurements = []
        for entry in filters:
            steps.begin(entry.title)
            measurements.append(measure(photo, entry, steps.done))
        steps.begin("drawing")
        width, height = draw(photo, measurements, file)
        steps.done()

    if json:
        print_json(
            {
                "picture": str(out),
                "picture_size": [width, height],
                "input_shape": photo.shape,
                "info": dataclasses.asdict(depthwise.info()),
                "filters": [entry.as_json() for entry in measurements],
            }
        )
        return
    print_tables(*demo_tables(measurements, depthwise.get_num_threads()))
    typer.echo(f"wrote {out} ({width} \u00d7 {height} pixels)")


@app.command()
def apply(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Any image file that Pillow reads.")],
    kernel: Annotated[
        str,
        typer.Option(
            "--kernel",
            metavar="NAME|FILE.npy",
            help="sobel, blur, sharpen, emboss, gabor, or a .npy file of shape (kh, kw), (kh, kw, M) or "
            "(kh, kw, C, M). All but the last are repeated over the image's channels.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.png|FILE.npy",
            help="A picture, or the values themselves. Default: IMAGE-KERNEL.png in the current folder.",
        ),
    ] = None,
    stride: Stride = "1",
    dilation: Dilation = "1",
    padding: PaddingOption = "valid",
    multiplier: Annotated[
        int | None, typer.Option("--multiplier", metavar="M", help=_HELP["depth_multiplier"])
    ] = None,
    activation: ActivationOption = None,
    json: Json = False,
) -> None:
    """Convolve an image file with one kernel and write the result.

    Samples are scaled to 0 ... 1 first. In pictures, results of kernels that sum to 1 keep that scale; others are
    stretched, with 0 as mid-grey when there are values below it, and the M results of a multiplier stand in a grid.
    """
    from depthwise.cli.apply import apply_to_file, default_output
    from depthwise.cli.report import print_json, progress_steps

    strides, dilation_rate = parse_pair("--stride", stride), parse_pair("--dilation", dilation)
    pad, function = parse_padding(padding), parse_activation(activation)
    with progress_steps(3) as steps:
        applied = apply_to_file(
            image,
            kernel,
            default_output(image, kernel) if out is None else out,
            strides=strides,
            dilation_rate=dilation_rate,
            padding=pad,
            multiplier=multiplier,
            activation=function,
            begin=steps.begin,
            done=steps.done,
        )
    if json:
        print_json(dataclasses.asdict(applied))
        return
    typer.echo(
        f"{applied.image}: input {applied.input_shape}, kernel {applied.kernel_shape}, output {applied.output_shape}, "
        f"values {applied.minimum:.4g} to {applied.maximum:.4g}, {applied.milliseconds:.2f} ms"
    )
    shades = applied.shades
    note = "" if shades is None else f" (black {shades.black:.3g}, white {shades.white:.3g})"
    typer.echo(f"wrote {applied.out}{note}")


@app.command()
def info(json: Json = False) -> None:
    """Show the version, the processor's features, the instruction set in use, the kernels and the threads."""
    from depthwise.cli.report import plain_text, print_json, print_tables, rows_table

    facts = dataclasses.asdict(depthwise.info())
    if json:
        print_json(facts)
        return
    rows = [(name.replace("_", " "), plain_text(value)) for name, value in facts.items()]
    print_tables(rows_table("depthwise", rows))


@app.command()
def cost(
    input: Annotated[  # noqa: A002  # the option's name
        str,
        typer.Option(
            "--input", metavar="N,H,W,C", help="Shape of the input, in the order of the data format."
        ),
    ],
    kernel: Annotated[str, typer.Option("--kernel", metavar="N|H,W", help=_HELP["kernel_size"])],
    stride: Stride = "1",
    dilation: Dilation = "1",
    padding: PaddingOption = "valid",
    multiplier: Annotated[int, typer.Option("--multiplier", metavar="M", help=_HELP["depth_multiplier"])] = 1,
    data_format: Annotated[
        str,
        typer.Option("--data-format", metavar="NAME", help=_HELP["data_format"]),
    ] = "channels_last",
    bias: Annotated[bool, typer.Option("--bias/--no-bias", help=_HELP["use_bias"])] = True,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="NAME", help=f"Of all arrays: {', '.join(DTYPES)}.")
    ] = "float32",
    json: Json = False,
) -> None:
    """Count what one forward pass costs: arithmetic, parameters, memory traffic."""
    from depthwise.cli.report import cost_rows, print_json, print_tables, rows_table

    input_shape = parse_shape("--input", input)
    with library_errors():
        spec = Spec(
            parse_pair("--kernel", kernel),
            strides=parse_pair("--stride", stride),
            padding=parse_padding(padding),
            depth_multiplier=multiplier,
            data_format=data_format,
            dilation_rate=parse_pair("--dilation", dilation),
            use_bias=bias,
        )
        counted = spec.cost(input_shape, dtype)
        output_shape = spec.output_shape(input_shape)
    channels = input_shape[3 if spec.data_format == "channels_last" else 1]
    shapes = {
        "input_shape": input_shape,
        "kernel_shape": spec.kernel_shape(channels),
        "output_shape": output_shape,
    }
    if json:
        print_json({**shapes, "dtype": dtype, **dataclasses.asdict(counted)})
        return
    rows = [(name.replace("_", " "), str(shape)) for name, shape in shapes.items()]
    print_tables(rows_table(f"One forward pass in {dtype}", [*rows, *cost_rows(counted)]))


@app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def bench(context: typer.Context) -> None:
    """Run the benchmark of a source checkout; all arguments, --help included, go to it."""
    from depthwise.cli.bench import run

    raise typer.Exit(run(context.args))
