"""Blocks depend on the shape alone; threads, forks and callers on several threads change nothing."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import logitherm as lt
from logitherm.kernels import likelihood, threads


@given(st.integers(0, 10**6), st.integers(1, 200_000), st.sampled_from([1 << 12, 1 << 16, 1 << 20]))
def test_blocks_partition_the_rows(rows, states, values):
    blocks = list(threads.blocks(rows, states, values))
    edges = [0, *(b.stop for b in blocks)]
    assert [b.start for b in blocks] == edges[:-1]
    assert edges[-1] == rows
    assert all(0 < b.stop - b.start <= threads.BLOCK_ROWS for b in blocks)
    assert all((b.stop - b.start) * states <= max(values, states) for b in blocks)


def test_results_come_in_order():
    found = threads.map_blocks(lambda block: block.start, 10**6, 10)
    assert found == sorted(found)
    assert len(found) > 1
    assert threads.map_blocks(lambda block: block, 0, 10) == []


def test_an_error_in_a_block_is_the_callers():
    def work(block):
        raise KeyError(block.start)

    with pytest.raises(KeyError, match="0"):
        threads.map_blocks(work, 10**6, 10)


def test_the_number_of_threads_may_be_set(monkeypatch):
    monkeypatch.setenv("LOGITHERM_NUM_THREADS", "3")
    assert threads.num_threads() == 3
    monkeypatch.delenv("LOGITHERM_NUM_THREADS")
    assert threads.num_threads() >= 1
    for wrong in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("LOGITHERM_NUM_THREADS", wrong)
        with pytest.raises(ValueError, match="LOGITHERM_NUM_THREADS: must be a positive integer; got"):
            threads.num_threads()


@pytest.mark.parametrize("shape", [(50_000, 10), (1000, 1000), (3, 131_072)])
def test_results_do_not_depend_on_the_number_of_threads(shape, monkeypatch, rng, ran):
    z = rng.normal(size=shape).astype(np.float32)
    labels = rng.integers(0, shape[1], shape[0])
    seen = likelihood.Observed(labels=labels)
    results = []
    for count in (1, 2, 3, 7):
        monkeypatch.setenv("LOGITHERM_NUM_THREADS", str(count))
        totals = likelihood.totals(z, seen, np.array([0.5, 1.0]))
        results.append((lt.entropy(z, 0.7), lt.softmax(z, 0.7), lt.log_softmax(z, 0.7), totals.sums))
    assert ran("moments") == ran("softmax") == ran("log_softmax") == 4
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


def test_callers_on_several_threads_at_once(rng):
    arrays = [rng.normal(size=(2000, 200 + i)).astype(np.float32) for i in range(8)]
    alone = [(lt.entropy(z, 0.5), lt.softmax(z, 2.0)) for z in arrays]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda z: (lt.entropy(z, 0.5), lt.softmax(z, 2.0)), arrays * 4))
    for a, b in zip(alone * 4, together):
        assert np.array_equal(a[0], b[0])
        assert np.array_equal(a[1], b[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_after_a_fork():
    """A child has none of its parent's threads. In a process of its own: JAX and others object to forks."""
    program = """
import os, warnings
warnings.simplefilter("ignore")
import numpy as np
import logitherm
from logitherm.kernels import ran
os.environ["LOGITHERM_NUM_THREADS"] = "2"
z = np.random.default_rng(0).normal(size=(2000, 500)).astype(np.float32)
before = logitherm.entropy(z)
child = os.fork()
if not child:
    same = np.array_equal(logitherm.entropy(z), before) and ran["moments"] == 2
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(logitherm.entropy(z), before)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_work_may_call_for_blocks_of_its_own(monkeypatch):
    monkeypatch.setenv("LOGITHERM_NUM_THREADS", "2")
    rows = 4 * threads.SINGLE_THREAD

    def work(block):
        return sum(threads.map_blocks(lambda inner: inner.stop - inner.start, rows, 1))

    assert set(threads.map_blocks(work, rows, 1)) == {rows}
