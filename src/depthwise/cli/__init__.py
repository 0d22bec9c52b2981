"""The command line, `depthwise`: the only part of the package that needs more than NumPy.

Nothing here is imported by `import depthwise`. What the commands need comes with the extra "cli" (in the repository:
`pip install ".[cli]"`), and `main` says so in one line when it is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from depthwise.cli.errors import EXIT_USAGE, explain_missing_extra

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    Args:
        arguments: what follows the program's name; None takes it from `sys.argv`.

    Raises:
        SystemExit: always. Code 0 for success, 2 for an error that the message on stderr explains.
    """
    try:
        from depthwise.cli.app import app  # first to import typer and rich, which may be missing
    except ModuleNotFoundError as error:
        message = explain_missing_extra(error)
        if message is None:
            raise
        print(message, file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from None
    app(args=None if arguments is None else list(arguments), prog_name="depthwise")
