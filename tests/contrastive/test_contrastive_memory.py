"""Memory beyond the features and their gradients, as the system counts it."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys, torch
from torch.nn.functional import cross_entropy, logsigmoid, normalize
from logitherm.contrastive import clip_loss, info_nce, siglip_loss, supcon_loss

def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

def run(name, n):
    torch.manual_seed(0)
    a, b = (torch.randn(n, 64, requires_grad=True) for _ in range(2))
    t = torch.tensor(0.07, requires_grad=True)
    if name == "dense":
        loss = cross_entropy(normalize(a, dim=1) @ normalize(b, dim=1).T / t, torch.arange(n))
    elif name == "info_nce":
        loss = info_nce(a, b, temperature=t, block=256)
    elif name == "clip":
        loss = clip_loss(a, b, temperature=t, block=256)
    elif name == "siglip":
        loss = siglip_loss(a, b, temperature=t, bias=-10.0, block=256)
    else:
        loss = supcon_loss(a, torch.arange(n) % 100, temperature=t, block=256)
    loss.backward()

names = ["info_nce", "clip", "siglip", "supcon", "dense"]
for name in names:
    run(name, 300)  # what is loaded and kept by the libraries
before = peak()
for name in names:
    run(name, 4096)
    print(name, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_memory_is_that_of_blocks_and_features():
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True, env=environment
    )
    peaks = {name: float(value) for name, value in (line.split() for line in done.stdout.splitlines())}
    assert peaks["dense"] > 190, peaks  # three matrices of 67 MB
    assert peaks["supcon"] < 0.08 * peaks["dense"], peaks  # the highest of ours: 1 MB a copy of the features
