"""`logitherm bake`: a calibrator folded into a model file."""

from __future__ import annotations

from pathlib import Path

import click

from logitherm.cli import options
from logitherm.cli.files import described, load, require_writable
from logitherm.cli.output import console, print_json, progress, reports_errors

SUFFIXES = (".onnx", ".safetensors")


@click.command(
    "bake",
    short_help="Fold a calibrator into a model file: calibrated at no cost.",
    epilog="Example: logitherm bake calibrator.json model.onnx -o calibrated.onnx",
)
@click.argument("calibrator", type=options.FILE)
@click.argument("model", type=options.FILE)
@click.option("-o", "target", type=options.FILE, metavar="OUT", required=True, help="Where to write the new model.")
@click.option("--graph-output", "output", metavar="NAME", help="ONNX: the graph's output, where there are several.")
@click.option("--weight", metavar="NAME", help="safetensors: the head's weight.  [default: classifier.weight]")
@click.option(
    "--bias", metavar="NAME", help="safetensors: its bias.  [default: named like the weight, if there is one]"
)
@options.options(options.as_json, options.force)
@reports_errors
def command(
    calibrator: Path,
    model: Path,
    target: Path,
    output: str | None,
    weight: str | None,
    bias: str | None,
    as_json: bool,
    force: bool,
) -> None:
    """Write MODEL with CALIBRATOR folded into its last layer: its logits, and what is made of them, are calibrated.

    MODEL is an .onnx graph or a .safetensors checkpoint of classification logits; OUT is of the same format. Where an
    ONNX graph has no last layer that could hold the calibrator, a node is inserted. Do not apply the calibrator to the
    logits of OUT again.
    """
    from logitherm.integrations.baking import bake_onnx, bake_safetensors
    from logitherm.io import require_file

    kind = model.suffix.lower()
    if kind not in SUFFIXES or target.suffix.lower() != kind:
        raise click.UsageError(f"MODEL and -o must both end in {' or both in '.join(SUFFIXES)}.")
    if kind == ".onnx" and (weight or bias):
        raise click.UsageError(
            "--weight and --bias are for .safetensors; an ONNX graph is read from its --graph-output."
        )
    if kind == ".safetensors" and output:
        raise click.UsageError("--graph-output is for .onnx; a checkpoint has --weight and --bias.")
    require_writable(target, [calibrator, model], force=force)
    require_file(model)
    with progress() as tell:
        fitted = load(calibrator, tell, scores=True)
        tell(f"baking {model.name}")
        if kind == ".onnx":
            done = bake_onnx(model, fitted, target, output=output, force=force)
        else:
            names = {"weight": weight} if weight else {}
            done = bake_safetensors(model, fitted, target, bias=bias, force=force, **names)
    if as_json:
        print_json({"model": model, "calibrator": calibrator, "output": target, **vars(done)})
        return
    console(stderr=True).print(f"{target}: {described(fitted)} {done}", markup=False, soft_wrap=True)
