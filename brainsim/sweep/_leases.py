"""Who works on what: leases as files, so that any number of processes share one folder.

A lease is taken by linking a private file to its name, which one process can do. Its owner renews its time of change;
one that was not renewed for `ttl` seconds belongs to a process that is gone, and is taken over by renaming it, which
again one process can do. Two processes may still, rarely, do the same work: results must not depend on leases.
"""

import contextlib
import os
import socket
import threading
import uuid
from pathlib import Path


class Leases:
    """The leases of one process in `folder`; a thread renews them until `close`."""

    def __init__(self, folder: Path, ttl: float) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.ttl = folder, ttl
        self.owner = f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self.held: set[str] = set()
        self._private = folder / f".{self.owner}"
        self._private.write_text(self.owner)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def take(self, name: str) -> bool:
        """Take the lease `name`, over from an owner that is gone if need be; False where another process has it."""
        path = self.folder / name
        for _ in range(2):
            try:
                os.link(self._private, path)
            except FileExistsError:
                if not self._stale(path):
                    return False
                try:  # one process succeeds, the others find nothing
                    os.rename(path, self.folder / f".stale.{name}.{self.owner}")
                except FileNotFoundError:
                    return False
                (self.folder / f".stale.{name}.{self.owner}").unlink(missing_ok=True)
                continue
            self.held.add(name)
            return True
        return False

    def drop(self, name: str) -> None:
        """Give the lease `name` back, unless it was taken over."""
        self.held.discard(name)
        path = self.folder / name
        with contextlib.suppress(FileNotFoundError):
            if path.read_text() == self.owner:
                path.unlink()

    def close(self) -> None:
        """Give all leases back."""
        self._closed.set()
        self._thread.join()
        for name in list(self.held):
            self.drop(name)
        self._private.unlink(missing_ok=True)

    def _stale(self, path: Path) -> bool:
        try:
            then = path.stat().st_mtime
        except FileNotFoundError:
            return True
        os.utime(self._private)  # the clock of the file system, which may be another machine's
        return self._private.stat().st_mtime - then > self.ttl

    def _renew(self) -> None:
        while not self._closed.wait(self.ttl / 4):
            for name in list(self.held):
                with contextlib.suppress(FileNotFoundError):
                    os.utime(self.folder / name)
