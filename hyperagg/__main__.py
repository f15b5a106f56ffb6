"""python -m hyperagg ..."""

from hyperagg.cli import main

if __name__ == "__main__":
    main()
