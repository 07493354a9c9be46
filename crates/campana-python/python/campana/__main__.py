"""The command: ``campana``, or ``python -m campana``."""

import sys

from . import _campana
from ._command import PROGRAM


def main():
    """Runs the command with the arguments of the process, and ends the process."""
    sys.exit(_campana.main(["campana", *sys.argv[1:]], PROGRAM))


if __name__ == "__main__":
    main()
