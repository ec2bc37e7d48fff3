"""A measuring command, run as ``python -m medcompress.compress...``: its errors are told as the program tells them."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..runtime.errors import MedcompressError


def run(main: Callable[[], None]) -> None:
    """Call ``main``; an error a user can mend ends the process with its exit code."""
    try:
        main()
    except MedcompressError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
