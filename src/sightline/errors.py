"""Every error that sightline raises on purpose. Each message says what happened and what to do about it.

    SightlineError
    ├── SettingsError         a setting is unknown, out of range, or would have no effect
    ├── DataError             the folder, the table or the split cannot be used as it is
    │   └── UnreadableImage   one file; `reason` is what the quarantine list shows
    ├── ModelError            a network or its weights cannot be had
    ├── TrainingError         the loss is no longer a number
    ├── RunError              a run folder or a classifier folder is missing, damaged or of another kind
    ├── StudyError            a study is of another space or folder, or what keeps it cannot be reached
    ├── DiskError             there is no room, or the folder cannot be written
    ├── Interrupted           stopped by the user; `resume` is the command that goes on
    └── Elsewhere             another of torchrun's processes has failed, and says why

The command line prints `str(error)` and exits with `exit_status`; it shows no traceback for any of these.
"""

from __future__ import annotations


def first_line(error: Exception) -> str:
    """What an error of another library says first, without the full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".:")[:300]


class SightlineError(Exception):
    """Something that the user can mend; the message is one or two sentences."""

    exit_status = 2


class SettingsError(SightlineError):
    """A setting is unknown, out of range, contradicts another, or would have no effect."""


class DataError(SightlineError):
    """The folder, the table of images or the split cannot be used as it is."""


class UnreadableImage(DataError):
    """One image file cannot be decoded."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ModelError(SightlineError):
    """A network is unknown, or its weights cannot be had or do not fit."""


class TrainingError(SightlineError):
    """Training cannot go on: the loss or a gradient is not finite, or its steps cannot be compiled."""


class RunError(SightlineError):
    """A run folder or a classifier folder is missing, damaged, or of another kind."""


class StudyError(SightlineError):
    """A study is of another space or other images, or its storage cannot be reached or read."""


class DiskError(SightlineError):
    """There is no room left, or a folder cannot be written to."""


class Interrupted(SightlineError):
    """The user stopped the run; everything up to here is saved."""

    exit_status = 130

    def __init__(self, message: str, resume: str) -> None:
        super().__init__(f"{message} Go on with: {resume}" if resume else message)
        self.resume = resume


class Elsewhere(SightlineError):
    """Another of the processes that torchrun started has failed; it is the one that says why."""

    def __init__(self, exit_status: int) -> None:
        super().__init__("Another process of this run has failed; it says why.")
        self.exit_status = exit_status
