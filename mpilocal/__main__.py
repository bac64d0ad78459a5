"""`python -m mpilocal` is the command `mpilocal`."""

import sys

from mpilocal.cli import main

if __name__ == "__main__":
    sys.exit(main())
