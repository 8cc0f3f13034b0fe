"""`python -m ccstore`: the command line."""

from ccstore.cli.main import main

if __name__ == "__main__":
    main()
