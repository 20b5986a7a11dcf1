"""`python -m sightline`, the same as `sightline`; torchrun starts it so."""

from sightline.cli import main

if __name__ == "__main__":
    main()
