"""The command line of every command: what all of them do with bad input."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from caffe_compat.commands import COMMANDS
from caffe_compat.commands.inputs import FileKind
from caffe_compat.errors import UsageError, in_file, nearest
from caffe_compat.resources import checkout, short_name

__all__ = ["Parser"]

EPILOG = (
    "Every command also takes --version, --debug (errors with their traceback), --no-python-layers and --no-limits."
)


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose refusals are errors of ours, one line each.

    Args:
        description: for the help; its line breaks stay.
        options: as of ``ArgumentParser``.

    An unknown option is told before anything that is missing, with the nearest that there is.  Files of a command line
    are looked at if the ``type`` of their argument is one of :mod:`.inputs`.
    """

    def __init__(self, description: str | None = None, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(description=_as_called(description), epilog=EPILOG, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse what is known; an option that is not is refused before anything that is missing."""
        words: Sequence[str] = sys.argv[1:] if args is None else list(args)
        for word in words:
            if word == "--":
                break
            self._check_known(word)
        return super().parse_known_args(words, namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; the files that a command line names are looked at, those that a program names (``args``) are not.

        Raises:
            UsageError: the words do not fit; names the first that does not.
            CaffeCompatError: a file that is not there, or not of the kind that is expected.
        """
        found = super().parse_args(args, namespace)
        if args is None:
            self.look_at_files(found)
        return found

    def look_at_files(self, found: argparse.Namespace) -> None:
        """Check the files of a parsed command line against the kinds of their arguments; defaults pass.

        Raises:
            CaffeCompatError: a file that is not there, or not of the kind that is expected; names the argument.
        """
        for action in self._actions:
            value = getattr(found, action.dest, None)
            if isinstance(action.type, FileKind) and value is not None and value != action.default:
                with in_file(
                    action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)
                ):
                    for one in value if isinstance(value, list) else [value]:
                        action.type.check(one)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            UsageError: always.
        """
        raise UsageError(self.refusal(message))

    def refusal(self, message: str) -> str:
        """What is said of a command line that does not fit, from what ``argparse`` says."""
        message = message.removeprefix("argument ").replace("unrecognized arguments:", "nothing takes the words")
        return f"{message}; {self.prog} --help tells more"

    def _check_known(self, word: str) -> None:
        """Refuse an option that there is not."""
        known, name = self._option_string_actions, word.partition("=")[0]
        if not re.match("--?[A-Za-z]", name) or name in known:
            return
        if not name.startswith("--") and name[:2] in known:  # -oFILE
            return
        if self.allow_abbrev and name.startswith("--") and any(option.startswith(name) for option in known):
            return
        self.error(f"there is no option {name}{nearest(name, known)}")


def _as_called(text: str | None) -> str | None:
    """A description whose examples are called as they can be called here: without a checkout there is no tools/."""
    if text is None or checkout() is not None:
        return text
    names = "|".join(COMMANDS)
    return re.sub(rf"\b(?:(?:tools|data)/)?({names})\.py\b", lambda found: f"caffe-compat {short_name(found[1])}", text)
