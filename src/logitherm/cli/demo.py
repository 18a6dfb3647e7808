"""`logitherm demo`: the main job on the data that comes with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from logitherm.cli import calibrate as main_job
from logitherm.cli import options
from logitherm.cli.files import read
from logitherm.cli.output import console, note, progress, reports_errors

ABOUT = (
    "The logits of a small network that reads handwritten digits and is too sure of itself: one hidden layer, trained "
    "on 297 of the images that come with scikit-learn, shrunk to 4 x 4 pixels, until it knew them by heart. The other "
    "1500 are halved: 750 to fit on (val), 750 to score on (test). Images: E. Alpaydin and C. Kaynak, Optical "
    "Recognition of Handwritten Digits, UCI, 1998, doi.org/10.24432/C50P49, CC BY 4.0. By examples/train_digits.py."
)


@click.command("demo")
@options.options(options.report, options.as_json, options.force)
@reports_errors
def command(report: Path | None, as_json: bool, force: bool) -> None:
    """Calibrate a real, overconfident reader of handwritten digits."""
    choices = main_job.Choices(report=report, force=force, as_json=as_json, name="digits")
    main_job.check_outputs(choices, inputs=[])
    folder = resources.files("logitherm") / "data"
    with progress() as tell:
        data = []
        for part in ("val", "test"):
            with resources.as_file(folder / f"digits.{part}.npz") as path:
                data.append(read(path, None, False, tell))
        study = main_job.run(data, choices, tell)
        written = main_job.write(study, choices, tell)
    if as_json:
        note(ABOUT)
    else:
        console().print(ABOUT, style="dim")
        console().print()
    main_job.show(study, data, choices, written)
    if not as_json:
        console().print("\n  On your own logits: logitherm calibrate val.npz test.npz --report report.html")
