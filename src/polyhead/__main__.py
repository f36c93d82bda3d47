"""`python -m polyhead`, the same as the `polyhead` command."""

from polyhead.cli.main import main

if __name__ == "__main__":
    main()
