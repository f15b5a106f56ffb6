"""Entry point of `python -m research`."""

from research.cli import main

main()
