"""What every test may ask for: the definition in many digits, and a count of the compiled kernels that ran."""

import math
import subprocess
import sys
from types import SimpleNamespace

import hypothesis
import mpmath
import numpy as np
import pytest

from logitherm.kernels import ran as kernel_counts

hypothesis.settings.register_profile("here", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.load_profile("here")

mp = mpmath.mp.clone()
mp.dps = 120  # a variance over T^2 cancels 88 of them at T = 1e-44


def definition(z, temperature, log_prior=None):
    """Every quantity of one row from p_i = q_i exp(z_i / T) / Z, in many digits; the limits as they are defined."""
    z = [float(v) for v in z]
    log_q = [0.0] * len(z) if log_prior is None else [float(v) for v in log_prior]
    allowed = [i for i in range(len(z)) if z[i] > -math.inf and log_q[i] > -math.inf]
    t = mp.mpf(float(temperature))
    q = {i: mp.exp(mp.mpf(log_q[i])) for i in allowed}
    if temperature == 0:
        best = max(z[i] for i in allowed)
        weight = {i: q[i] if z[i] == best else mp.mpf(0) for i in allowed}
    elif temperature == math.inf:
        weight = q
    else:
        weight = {i: q[i] * mp.exp(mp.mpf(z[i]) / t) for i in allowed}
    total = mp.fsum(weight.values())
    p = {i: weight[i] / total for i in allowed}
    mean = mp.fsum(p[i] * mp.mpf(z[i]) for i in allowed)
    variance = mp.fsum(p[i] * (mp.mpf(z[i]) - mean) ** 2 for i in allowed)
    entropy = -mp.fsum(p[i] * mp.log(p[i] / q[i]) for i in allowed if p[i] > 0)
    limit = temperature in (0, math.inf)
    if temperature == 0:
        free, log_z = -mean, mp.mpf(0) if mean == 0 else mp.sign(mean) * mp.inf
        log_z = entropy if mean == 0 else log_z
    elif temperature == math.inf:
        still = abs(entropy) < 1e-14  # a prior that sums to 1 within float64
        free, log_z = (-mean if still else -mp.sign(entropy) * mp.inf), mp.log(total)
    else:
        free, log_z = -t * mp.log(total), mp.log(total)
    return SimpleNamespace(
        p=[p.get(i, mp.mpf(0)) for i in range(len(z))],
        log_p=[mp.log(p[i]) if p.get(i, 0) > 0 else -mp.inf for i in range(len(z))],
        log_partition=log_z,
        free_energy=free,
        mean_energy=-mean,
        entropy=entropy,
        heat_capacity=mp.mpf(0) if limit else variance / t**2,
        top_probability=max(p.values()),
    )


@pytest.fixture(scope="session", name="definition")
def definition_():
    return definition


@pytest.fixture
def ran():
    """`ran("moments")`: how often a compiled kernel was called since the last question."""
    before = kernel_counts.copy()

    def count(kernel):
        calls = kernel_counts[kernel] - before[kernel]
        before[kernel] = kernel_counts[kernel]
        return calls

    return count


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def processes():
    """`processes(file, n, folder)`: run a file as a script n times at once, with its number and the folder."""

    def run(file, count, folder):
        started = [
            subprocess.Popen([sys.executable, file, str(number), str(folder)], stderr=subprocess.PIPE, text=True)
            for number in range(count)
        ]
        ends = [process.communicate(timeout=300)[1] for process in started]
        assert all(process.returncode == 0 for process in started), "\n".join(ends)

    return run


PROSE = (
    "The law of a language model is a Gibbs distribution: hot models ramble, cold models repeat themselves. "
    "A temperature is the one number between the two. We measure it, and then we set it where it should be. "
)


@pytest.fixture(scope="session")
def language_model(tmp_path_factory):
    """`language_model("gpt2")`, or "llama": the folder of a tiny one with random weights and a tokenizer trained on
    the spot, saved as transformers does."""
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            _save_language_model(kind, made[kind])
        return made[kind]

    return folder


def _save_language_model(kind, folder):
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>", "<|pad|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([PROSE], trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>", padding_side="left"
    )
    fast.save_pretrained(folder)
    size = {"vocab_size": len(fast), "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(n_positions=256, n_embd=32, n_layer=2, n_head=2, **size)
        model = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=256, **size,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)  # of random weights the law is nearly flat; so it has a shape
    torch.random.set_rng_state(state)
    model.save_pretrained(folder)
