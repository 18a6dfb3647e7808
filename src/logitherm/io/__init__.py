"""Logits on disk: read with their labels from the usual formats, checked; written whole or not at all."""

from logitherm.io.answers import Answer, read_answers
from logitherm.io.errors import InputError, MissingExtra, require_file
from logitherm.io.groups import read_groups
from logitherm.io.reading import SUFFIXES, LogitData, read_logits
from logitherm.io.writing import check_target, write_npz, write_whole

__all__ = [
    "SUFFIXES",
    "Answer",
    "InputError",
    "LogitData",
    "MissingExtra",
    "check_target",
    "read_answers",
    "read_groups",
    "read_logits",
    "require_file",
    "write_npz",
    "write_whole",
]
