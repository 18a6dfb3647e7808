"""`python -m logitherm.cli`."""

from logitherm.cli import main

if __name__ == "__main__":
    main(prog_name="logitherm")
