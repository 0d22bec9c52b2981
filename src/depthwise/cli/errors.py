"""How the command line reports what went wrong: one line on stderr, exit code 2, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["EXIT_USAGE", "CliError", "explain_missing_extra", "library_errors"]

EXIT_USAGE = 2

# The top-level modules that the `cli` extra brings, by the names they are imported under.
_EXTRA_MODULES = frozenset({"matplotlib", "PIL", "rich", "scipy", "skimage", "typer"})


class CliError(Exception):
    """An error whose message is all that the user needs to see."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())  # some libraries' messages span lines; ours stay on one


@contextmanager
def library_errors() -> Iterator[None]:
    """Turn the errors that `depthwise` raises on bad arguments into a `CliError`.

    Wrapped around calls of the library only: the same exception out of the command line's own code is a bug, and
    must keep its traceback.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        raise CliError(str(error)) from error
    except MemoryError as error:
        raise CliError(f"not enough memory: {error}") from error


def explain_missing_extra(error: ModuleNotFoundError) -> str | None:
    """The line to print when `error` is about a module of the `cli` extra; None when it is about anything else."""
    module = (error.name or "").partition(".")[0]
    if module not in _EXTRA_MODULES:
        return None
    return (
        f'depthwise: the command line needs {module}, which is not installed; it comes with the extra "cli"'
    )
