"""`python -m depthwise.cli` is the command `depthwise`."""

from depthwise.cli import main

main()
