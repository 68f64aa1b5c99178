"""The command line. Exit codes: 0 passed, 1 not passed, 2 usage, 3 harness fault."""

from harness.cli.app import main

__all__ = ["main"]
