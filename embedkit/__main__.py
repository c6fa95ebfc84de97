"""``python -m embedkit``: the command line where its script is not on the path."""

from embedkit.cli import main

if __name__ == "__main__":
    main()
