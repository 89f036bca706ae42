"""One command line in a process forked from one that has the heavy imports behind it; run by `runpy.run_path`."""

import atexit
import os
import sys

from automl.cli import main

os.chdir(folder)  # type: ignore[name-defined]  # noqa: F821  set by the caller, as are the other two
for number, path in enumerate((os.devnull, out, err)):  # type: ignore[name-defined]  # noqa: F821
    os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
sys.argv = ["automl", *arguments]  # type: ignore[name-defined]  # noqa: F821
try:
    main()
finally:
    atexit._run_exitfuncs()  # which a forked process ends without: the command's fork server would import on
