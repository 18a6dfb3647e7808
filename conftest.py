"""What the tests of examples in docstrings leave out."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("vllm") else ["src/logitherm/integrations/vllm.py"]  # it says that vLLM is missing
