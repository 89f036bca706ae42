"""The command `automl`, also as `python -m automl`.

Nothing is imported here: each process of a trial loads the script by which the launcher was begun, and so this module.
"""

from __future__ import annotations


def main() -> None:
    """Runs the command line."""
    from automl import cli

    cli.main()


if __name__ == "__main__":
    main()
