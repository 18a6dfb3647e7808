"""The README says what is so."""

import doctest
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_its_examples_run():
    assert doctest.testfile(str(ROOT / "README.md"), module_relative=False).failed == 0


def test_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r'\]\(([^)]+)\)|(?:src|srcset)="([^"]+)"', text):
        link = "".join(target)
        assert link.startswith("https://") or (ROOT / link).exists(), link
