"""The command line: each command reads files, makes one library call, and prints a table or JSON.

Exit codes: 0 done, 1 bad input (one line on stderr), 2 wrong usage, 3 drift (`check --fail-on-drift`), 130 stopped by
Ctrl-C.
"""

from __future__ import annotations

import click

from logitherm.cli import apply, attention, bake, calibrate, check, demo, evaluate, generate, plan, sweep, teacher
from logitherm.cli.output import survive_narrow_encodings

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(package_name="logitherm", message="logitherm %(version)s")
def main() -> None:
    """A thermometer and thermostat for every softmax.

    Files of logits: .npz, .npy, .csv, .parquet, .safetensors, .pt; answers of language models: .jsonl. `generate`
    takes a language model itself. Try `logitherm demo` first.
    """
    survive_narrow_encodings()


for _module in (calibrate, evaluate, apply, check, bake, plan, generate, sweep, teacher, attention, demo):
    main.add_command(_module.command)
