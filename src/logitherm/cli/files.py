"""What commands do with files: read them, refuse them, and say what should be known of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitherm._words import counted
from logitherm.cli.output import Tell, warn

if TYPE_CHECKING:
    from logitherm.io import LogitData


def read(
    path: Path, labels: Path | None, probabilities: bool, tell: Tell, labels_option: str = "--labels"
) -> LogitData:
    from logitherm.io import read_logits

    tell(f"reading {path.name}")
    return read_logits(path, labels=labels, probabilities=probabilities, labels_option=labels_option)


def load(path: Path, tell: Tell, *, scores: bool = False) -> Any:
    """A saved calibrator of logits; one of a score a label only where `scores` are taken too."""
    tell(f"reading {path.name}")
    from logitherm.calibration import PlattScaling, TruncatedTemperatureScaling, load_calibrator
    from logitherm.io import InputError, require_file

    require_file(path, f"make one with `logitherm calibrate ... --save {path.name}`")
    if path.suffix.lower() != ".json":
        raise InputError(f"{path}: must be a calibrator, a .json file; got {path.suffix}; swap the files, perhaps")
    fitted = load_calibrator(path)
    if isinstance(fitted, TruncatedTemperatureScaling):
        raise InputError(
            f"{path}: must be a calibrator of whole rows; got one of truncated answers; only `logitherm apply` has "
            "a use for it, with a .jsonl of answers"
        )
    if isinstance(fitted, PlattScaling) and not scores:
        raise InputError(f"{path}: must be a calibrator of logits; got one of a score a label; use it in Python")
    return fitted


def require_classes(fitted: Any, classes: int, path: Path) -> None:
    """A calibrator belongs to one model; another number of classes is another model."""
    from logitherm.io import InputError

    known = getattr(fitted, "n_features_in_", classes)
    if known != classes:
        raise InputError(
            f"{path}: must have the {counted(known, 'class')} that the calibrator was fitted to; got {classes}; "
            "use that of this model"
        )


def groups_for(fitted: Any, path: Path | None, rows: int) -> Any:
    """The groups in a file, for a calibrator that has such; None without a file."""
    from logitherm.calibration import GroupTemperatureScaling
    from logitherm.io import InputError, read_groups

    if path is None:
        return None
    if not isinstance(fitted, GroupTemperatureScaling):
        raise InputError(
            f"{path}: must be for a calibrator of groups; got {described(fitted)}, which knows none; leave --groups out"
        )
    return read_groups(path, rows)


def through(step: Callable[..., Any], logits: Any, groups: Any) -> Any:
    """What a calibrator makes of logits; only one of groups takes these."""
    return step(logits) if groups is None else step(logits, groups)


def require_possible(data: list[LogitData]) -> None:
    """Refuse labels of probability zero here, where the file is known."""
    from logitherm.io import InputError

    for each in data:
        if each.zero_labels:
            first = int((each.logits[range(each.n), each.labels] == -math.inf).argmax())
            raise InputError(
                f"{each.source}: {each.zero_labels} of {each.n} labels have probability zero, first in row {first}, "
                "so that no temperature makes the data possible; mend these rows, or leave them out with --zero-labels "
                "exclude"
            )


def require_writable(output: Path, inputs: Collection[Path], *, force: bool) -> None:
    """Refuse to write over a file that is read or, without `force`, over any: before the work is done."""
    from logitherm.io import InputError, check_target

    if output.resolve() in {path.resolve() for path in inputs}:
        raise InputError(f"{output}: is an input and cannot be the output too; choose another name")
    check_target(output, force=force)


def remark(data: LogitData, consequence: str | None = None) -> None:
    """What should be known of a file that is not an error; `consequence` is that of labels of probability zero."""
    if data.hint:
        warn(f"{data.source}: {data.hint}")
    if data.zeros:
        share = f"{data.zeros} of {data.logits.size} probabilities"
        warn(f"{data.source}: {share} are exactly zero, and stay zero at every temperature")
    if data.zero_labels and consequence:
        warn(f"{data.source}: {data.zero_labels} of {data.n} labels have probability zero; {consequence}")


def remark_own_rows(path: Path, fitted: Any, data: LogitData) -> None:
    """Scores on the rows of the fit flatter the calibrator."""
    from logitherm.calibration.provenance import data_hash

    known = (getattr(fitted, "provenance_", None) or {}).get("fitted_to", {}).get("sha256")
    if known is not None and known == data_hash(data.logits, data.labels):
        warn(f"{data.source}: these are the rows that {path} was fitted to, so what is found flatters it; give others")


def remark_bound(path: Path, bound: str | None) -> None:
    """A calibrator at a bound is exact for what it was fitted to, and useless elsewhere."""
    where = {"zero": "T = 0 (one-hot answers)", "infinite": "T = infinity (uniform answers)"}.get(bound or "")
    if where:
        warn(f"{path}: the calibrator is at {where}, not one to ship; fit it on other or more held-out rows")


def remark_groups(path: Path, fitted: Any, groups: Any = None) -> None:
    """Rows to which a calibrator of groups gives the temperature that all have in common."""
    from logitherm.calibration import GroupTemperatureScaling

    if not isinstance(fitted, GroupTemperatureScaling):
        return
    common = f"get the common temperature, T = {fitted.temperature_:.3g}"
    if groups is None:
        warn(
            f"{path}: is a calibrator of {counted(len(fitted.groups_), 'group')}; without these all rows {common}; "
            "pass --groups FILE"
        )
        return
    known = set(fitted.groups_.tolist())
    unknown = sum(group not in known for group in groups.tolist())
    if unknown:
        warn(f"{path}: {unknown} of {len(groups)} rows are of groups that it was not fitted to, and {common}")


def about(data: LogitData, used: int) -> str:
    """The file with the rows that were used of it."""
    rows = counted(data.n, "row")
    if used != data.n:
        rows = f"{used} of {rows}"
    return f"{data.source} ({rows}, {counted(data.classes, 'class')})"


def described(fitted: Any) -> str:
    """A calibrator in a few letters."""
    from logitherm.calibration import METHODS, GroupTemperatureScaling
    from logitherm.cli.tables import number

    kind = type(fitted)
    names = {family: name for name, family in METHODS.items()} | {GroupTemperatureScaling: "group"}
    return f"T = {number(fitted.temperature_)}" if kind is METHODS["temperature"] else names.get(kind, kind.__name__)
