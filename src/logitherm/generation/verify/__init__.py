"""Is a sampler exact? Tests of any sampler against the law that it should have.

A sampler is a callable `draw(logits, n, seed)` that returns n integers: from logits of shape (states,) n draws of one
law, from logits of shape (n, states) one draw a row. `seed` is an integer, or an array with one a row.
"""

from logitherm.generation.verify.blocks import verify_speculation
from logitherm.generation.verify.contract import batch_invariance, reproducibility
from logitherm.generation.verify.kit import draws_of, verify
from logitherm.generation.verify.laws import from_counts, ladder
from logitherm.generation.verify.oracle import Law, law_of
from logitherm.generation.verify.results import Check, Report, holm
from logitherm.generation.verify.statistics import chi_square, independence, pit, support, tails, uniformity

__all__ = [
    "Check",
    "Law",
    "Report",
    "batch_invariance",
    "chi_square",
    "draws_of",
    "from_counts",
    "holm",
    "independence",
    "ladder",
    "law_of",
    "pit",
    "reproducibility",
    "support",
    "tails",
    "uniformity",
    "verify",
    "verify_speculation",
]
