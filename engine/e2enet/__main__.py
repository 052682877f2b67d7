"""`python -m e2enet` is the `e2enet` command, for callers that choose the interpreter."""

from e2enet.cli import main

if __name__ == "__main__":
    main()
