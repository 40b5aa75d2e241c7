"""From which state of the code a result comes."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The commit that is checked out, or "unknown" outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
