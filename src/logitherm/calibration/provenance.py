"""Where a calibrator comes from: the rows it was fitted to, what it was found to do, and by which version."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from logitherm._array import Array, to_numpy
from logitherm.calibration.rows import row_blocks
from logitherm.metrics import Evaluation


def data_hash(logits: Array, labels: Array) -> str:
    """SHA-256 of the logits, row by row in their own dtype, followed by the labels as int64.

    Examples
    --------
    >>> import numpy as np
    >>> data_hash(np.zeros((2, 3)), np.array([0, 1]))[:8]
    '4beba5e9'
    """
    digest, z = hashlib.sha256(), to_numpy(logits)
    for block in row_blocks(z):
        digest.update(np.ascontiguousarray(z[block]).tobytes())
    digest.update(to_numpy(labels).astype(np.int64).tobytes())
    return digest.hexdigest()


def provenance(
    logits: Array, labels: Array, *, name: str, method: str, scored_on: str, before: Evaluation, after: Evaluation
) -> dict[str, Any]:
    """Plain values for JSON; scores have value, low and high."""
    return {
        "logitherm": _version(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "name": name,
        "method": method,
        "fitted_to": {"sha256": data_hash(logits, labels), "rows": len(logits), "classes": int(logits.shape[1])},
        "scored_on": scored_on,
        "before": before.to_dict(),
        "after": after.to_dict(),
    }


def _version() -> str:
    try:
        return version("logitherm")
    except PackageNotFoundError:  # a source tree that is not installed
        return "unknown"
