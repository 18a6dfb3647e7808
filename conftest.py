"""What the tests of examples in docstrings leave out, and how tests share the cores."""

import os
from importlib.util import find_spec

collect_ignore = [] if find_spec("vllm") else ["src/logitherm/integrations/vllm.py"]  # it says that vLLM is missing

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: threads of PyTorch would only be in each other's way
    os.environ.setdefault("OMP_NUM_THREADS", "1")
