"""Jobs that the tests run on Ray, outside the sandbox."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from agorai_trainer.frames import Job, Reply


def describe(job: Job) -> Reply:
    """Tell of the process."""
    return Reply(
        {"process": os.getpid(), "variables": sorted(os.environ), "sizes": [len(blob) for blob in job.blobs]}
    )


def echo(job: Job) -> Reply:
    """Give back what it was given."""
    return Reply(job.body, job.blobs)


def stay(job: Job) -> Reply:
    """Say where it is, and run as long as whoever started it."""
    Path(str(job.body["path"])).write_text(str(os.getpid()))
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.05)
    return Reply({})


def die(_job: Job) -> Reply:
    """End without a word."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Reply({})
