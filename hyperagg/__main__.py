"""python -m hyperagg ..., and the command hyperagg."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> None:
    """Run the command line.

    Ctrl-C ends the process at once, without a traceback, while the modules are imported, which
    takes half a second, and when the command has ended and the interpreter shuts down.
    """
    # A KeyboardInterrupt inside an import may come out as another error, and is printed at the end.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from hyperagg import cli

    cli.main()


if __name__ == "__main__":
    main()
