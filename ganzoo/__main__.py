"""`python -m ganzoo` is `ganzoo`; so is `torchrun ... -m ganzoo`."""

from ganzoo.cli import main

if __name__ == "__main__":
    main()
