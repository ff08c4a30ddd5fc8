"""`python -m raresight ...` is `raresight ...`; torchrun starts it so, once for every process."""

from raresight.cli import main

if __name__ == "__main__":
    main()
