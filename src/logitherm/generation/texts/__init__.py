"""Numbers about generated texts: how repetitive, how diverse, how surprising, how often right."""

from logitherm.generation.texts.diversity import compression_ratio, distinct_n, self_bleu
from logitherm.generation.texts.laws import TokenNumbers, perplexity, token_numbers
from logitherm.generation.texts.repetition import final_loop, loop_rate, repeated_n
from logitherm.generation.texts.success import best_of, majority_vote, pass_at_k

__all__ = [
    "TokenNumbers",
    "best_of",
    "compression_ratio",
    "distinct_n",
    "final_loop",
    "loop_rate",
    "majority_vote",
    "pass_at_k",
    "perplexity",
    "repeated_n",
    "self_bleu",
    "token_numbers",
]
