"""What goes to stdout and what to stderr: results, JSON, one-line errors, warnings, progress."""

from __future__ import annotations

import functools
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from logitherm._json import plain

if TYPE_CHECKING:
    from rich.console import Console

Command = TypeVar("Command", bound=Callable[..., Any])

# What the library raises for bad input, ImportError for a missing extra, and what the machine refuses.
EXPECTED = (ValueError, TypeError, ImportError, OSError, MemoryError)


# The library advises what to write in Python; here it is an option.
OPTIONS = {"force=True": "--force", "zero_labels='exclude'": "--zero-labels exclude"}


class Failure(click.ClickException):
    """One line on stderr and exit code 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        _message("error", self.message)


class Stopped(Failure):
    exit_code = 130  # as a shell has it


STOPPED = "stopped by Ctrl-C; no file is left half-written"


def reports_errors(command: Command, stopped: str = STOPPED) -> Command:
    """Expected errors of a command become one line, Python's warnings one line each."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            try:
                result = command(*arguments, **options)
                sys.stdout.flush()  # a full disk shows here, and not after the last line of this program
                return result
            except KeyboardInterrupt as error:
                raise Stopped(stopped) from error
            except BrokenPipeError:  # the reader has had enough, as `head` does: click ends in silence
                raise
            except EXPECTED as error:
                raise Failure(_one_line(error)) from error
            finally:
                for warning in caught:
                    warn(str(warning.message))

    return wrapped  # type: ignore[return-value]


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"not enough memory ({text or 'the file is too large for this machine'}); pass fewer rows"
    if isinstance(error, OSError) and error.errno is not None:  # files are named where they are read and written
        place = error.filename or "standard output"
        return f"{place}: {error.strerror}; make room, or choose another file"
    for python, option in OPTIONS.items():
        text = text.replace(python, option)
    return text or type(error).__name__


def warn(message: str) -> None:
    _message("warning", message)


def note(message: str) -> None:
    """What happened, where stdout is not for people."""
    click.echo(message, err=True)


def _message(kind: str, text: str) -> None:
    from rich.text import Text

    style = "bold red" if kind == "error" else "yellow"
    line = Text.assemble((f"{kind}:", style), " ", " ".join(text.split()))
    console(stderr=True).print(line, soft_wrap=True)


def console(*, stderr: bool = False) -> Console:
    """A console on the streams of now; it honours NO_COLOR and the width of the terminal, 80 where there is none."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, emoji=False)


def survive_narrow_encodings() -> None:
    """A terminal that lacks a character shows another one instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


# -- JSON ------------------------------------------------------------------------------------------------


def print_json(contents: dict[str, Any]) -> None:
    click.echo(json.dumps(plain(contents), indent=2, allow_nan=False))


# -- progress --------------------------------------------------------------------------------------------


class Tell(Protocol):
    """Say what is being done, and how much of it is done where that is known."""

    def __call__(self, message: str, fraction: float | None = None) -> None: ...


@contextmanager
def progress() -> Iterator[Tell]:
    """A line on stderr that vanishes at the end; silent where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda message, fraction=None: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(message: str, fraction: float | None = None) -> None:
            if fraction is None:
                bar.update(task, description=message)
            else:
                bar.update(task, description=message, total=1.0, completed=min(max(fraction, 0.0), 1.0))

        yield tell
