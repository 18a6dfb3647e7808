"""Generated text on its way to the terminal: whole characters, nothing from a stop string on, shaded by surprise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# Probability that the model itself gave the token, at T = 1: from which on, how it is shaded, what the legend says.
SHADES = (
    (0.5, "", "1/2"),
    (0.1, "black on #fff3b0", "1/10"),
    (0.01, "black on #ffc95f", "1/100"),
    (0.001, "black on #ff8f4d", "1/1000"),
    (0.0, "white on #b5253a", "less"),
)
INCOMPLETE = "\ufffd"  # what a tokenizer makes of bytes that are not a character yet


@dataclass
class Token:
    """One token that was drawn, and the text that it added."""

    id: int
    log_probability: float
    raw_log_probability: float
    kept: int
    text: str = ""


class Transcript:
    """Tokens as they come, and the text that is certain so far.

    Parameters
    ----------
    decode : callable
        Text of a list of tokens.
    ends : collection of int
        Tokens that end the text and are no part of it.
    stops : sequence of str
        Strings from which on nothing is text.
    show : callable
        Gets every piece of text with the probability of the token that brought it.
    """

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        ends: Iterable[int],
        stops: Sequence[str],
        show: Callable[[str, float], None],
    ) -> None:
        self.decode, self.ends, self.stops, self.show = decode, frozenset(ends), stops, show
        self.tokens: list[Token] = []
        self.ended: str | None = None
        self._held: list[list[Any]] = []  # text that may yet turn out to belong to a stop string, with probabilities
        self._decoded = ""

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    def add(self, token: Token) -> None:
        """One more token."""
        self.tokens.append(token)
        if token.id in self.ends:
            self.ended = "end"
            return
        decoded = self.decode([t.id for t in self.tokens])
        if decoded.endswith(INCOMPLETE):
            return
        piece, self._decoded = decoded[len(self._decoded) :], decoded
        self._held.append([token, piece])
        pending = "".join(text for _, text in self._held)
        found = [at for stop in self.stops if (at := pending.find(stop)) >= 0]
        if found:
            self.ended = "stop"
            self._release(min(found))
            self._held = []
        else:
            self._release(len(pending) - max((_overlap(pending, stop) for stop in self.stops), default=0))

    def finish(self) -> None:
        """No more tokens: what was held back is text after all."""
        self.ended = self.ended or "max_tokens"
        if self.ended == "max_tokens" and self.tokens:  # bytes that never became a character
            rest = self.decode([t.id for t in self.tokens])[len(self._decoded) :]
            if rest:
                self._held.append([self.tokens[-1], rest])
        self._release(sum(len(text) for _, text in self._held))

    def _release(self, length: int) -> None:
        """Show so many characters of what is held back."""
        from logitherm.kernels import exponential

        while self._held and length > 0:
            token, text = self._held[0]
            part, rest = text[:length], text[length:]
            length -= len(part)
            token.text += part
            self.show(part, float(exponential(token.raw_log_probability)))
            self._held[0][1] = rest
            if not rest:
                self._held.pop(0)


def shade(probability: float) -> str:
    """The style of a token of this probability."""
    return next(style for least, style, _ in SHADES if probability >= least)


class Screen:
    """Where the text goes: a terminal, shaded if asked for, or a plain stream."""

    def __init__(self, out: Console, *, color: bool) -> None:
        self.out = out
        self.color = color and out.is_terminal and not out.no_color

    def prompt(self, text: str) -> None:
        """The prompt goes before the text where someone looks on."""
        if self.out.is_terminal:
            self._print(text, "bold")

    def piece(self, text: str, probability: float) -> None:
        """Text as it comes, on the terminal at once."""
        if not self.out.is_terminal:
            sys.stdout.write(text)
        else:
            self._print(text, shade(probability) if self.color else "")
        sys.stdout.flush()

    def newline(self) -> None:
        sys.stdout.write("\n")

    def legend(self) -> None:
        """What the shades mean."""
        from rich.text import Text

        if not self.color:
            return
        line = Text("Probability of the token by the model itself (T = 1), at least:", style="dim")
        for _, style, words in SHADES:
            line.append(" ").append(f" {words} ", style or "none")
        self.out.print(line)

    def _print(self, text: str, style: str) -> None:
        from rich.text import Text

        shown = Text()
        for i, line in enumerate(_harmless(text).split("\n")):
            shown.append("\n" if i else "").append(line, style)  # a shaded line break would paint to the margin
        self.out.print(shown, end="", soft_wrap=True)


def _overlap(text: str, stop: str) -> int:
    """How much of the end of a text may be the beginning of a stop string."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


def _harmless(text: str) -> str:
    """Without characters that command a terminal."""
    return "".join(c if c in "\n\t" or (ord(c) >= 32 and not 127 <= ord(c) < 160) else INCOMPLETE for c in text)
