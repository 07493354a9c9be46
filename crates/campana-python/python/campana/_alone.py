"""The command as a program: run by its path it loads the native part alone, without NumPy, so that what it measures is
the models'."""

import os
import sys

import _campana


def main():
    sys.exit(_campana.main(["campana", *sys.argv[1:]], [sys.executable, os.path.abspath(__file__)]))


main()
