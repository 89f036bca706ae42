"""How much memory there is for this process: what the machine has free, or less where a limit is set."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import psutil

#: Where Linux shows control groups, and those that this process is in.
_GROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available() -> int:
    """Returns the bytes that this process can still take before the machine, its control group or its limit is full."""
    return max(0, min([psutil.virtual_memory().available, *_limits()]))


def _limits() -> Iterator[int]:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)  # `ulimit -v`
    if soft != resource.RLIM_INFINITY:
        yield soft - psutil.Process().memory_info().vms
    for folder, limit, usage, cached in _groups():
        try:
            most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such group here, or `max`: no limit
            continue
        # Pages of files are given back when they are needed.
        yield most - used + int(stat.get(cached, 0))


def _groups() -> Iterator[tuple[Path, str, str, str]]:
    """Yields folder, and names of limit, use and cached pages, of each control group that this process is in."""
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = _GROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = _GROUPS / "memory"
        else:
            continue
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder == _GROUPS.parent:
                break
            yield (folder, *names)
