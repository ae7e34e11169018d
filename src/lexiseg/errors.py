"""One class per kind of failure; the message says what was got, what was expected and what to do."""

from __future__ import annotations


class LexisegError(Exception):
    """Base of every error that lexiseg raises on purpose; its text is one line, meant for a person."""


class LexisegWarning(UserWarning):
    """Something was read or done all the same, but a person may want to know."""


class UsageError(LexisegError):
    """The call itself is wrong (an unknown preset, an empty phrase): nothing was started."""


class UnknownPreset(UsageError):
    """No preset of that name ships with the package and no such YAML file exists."""


class UnknownModel(UsageError):
    """The model's name is neither bundled, a folder, a checkpoint file nor a hub id that can be read."""


class UnavailableDevice(UsageError):
    """The device that was asked for is not present on this machine."""


class BadPhrase(UsageError):
    """A phrase is empty, too long, has no letter in it, or names several targets."""


class BadManifest(UsageError):
    """A manifest lacks a column, repeats an id, or cannot be read as CSV."""


class BadDataset(UsageError):
    """A folder is not of the layout that was named, or is asked for what that layout does not have."""


class UnreadableScan(LexisegError):
    """A scan is missing, empty, truncated, wrongly named, too large, or holds no finite pixel."""


class UnwritableResult(LexisegError):
    """A result could not be written (full disk, missing permission); nothing half-written is left."""


class FormatMismatch(LexisegError):
    """A file format cannot hold a scan's masks as they are (a structure set of a PNG): nothing was written in it."""


class BrokenWeights(LexisegError):
    """A checkpoint is truncated, has the wrong keys or shapes, or does not match its checksum."""


class DownloadFailed(LexisegError):
    """A hub could not be reached, refused, or sent less than it promised."""


class UnsupportedByModel(LexisegError):
    """The model cannot do what was asked (no dense features, no such layer)."""


class TrainingDiverged(LexisegError):
    """A loss or gradient is not finite; the last good checkpoint is kept."""


class NoLabels(LexisegError):
    """A set has nothing to learn from: no scan, or no scan that shows a target."""
