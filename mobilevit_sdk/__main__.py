"""`python -m mobilevit_sdk` is `mobilevit`: for launchers of Python modules, such as torchrun."""

from mobilevit_sdk.cli import main

if __name__ == "__main__":
    main(prog_name="mobilevit")
