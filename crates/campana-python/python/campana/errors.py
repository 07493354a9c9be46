"""The exceptions that campana raises; all are :class:`CampanaError`."""


class CampanaError(Exception):
    """Any error of campana. Its text names the file, tensor or node and what to do."""


class ArgumentError(CampanaError, ValueError):
    """An argument is out of range, of the wrong type, or does not fit the model."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument is of a type that is not taken."""


class FileError(CampanaError, OSError):
    """A file cannot be read or written."""


class OutputExistsError(CampanaError, FileExistsError):
    """The output exists; ``force=True`` replaces it."""


class FormatError(CampanaError, ValueError):
    """A file is damaged or not what it claims to be."""


class UnsupportedError(CampanaError):
    """A sound file needs something that campana does not support."""


class LimitError(CampanaError):
    """A file asks for more than is reasonable."""


class BoundMissedError(CampanaError):
    """A bound on size or accuracy cannot be met; ``report`` is that of the best model that was found."""

    def __init__(self, text, report):
        super().__init__(text, report)
        self.report = report

    def __str__(self):
        return self.args[0]


class CommandError(CampanaError):
    """A command that runs in a process of its own failed; the text is what it says."""


class InternalError(CampanaError, RuntimeError):
    """campana itself failed; please report it."""


class InterruptedJobError(CampanaError):
    """A job was stopped."""
