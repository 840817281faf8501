"""Engines for ``test_remote.py``: served in another process, they misbehave on demand. NumPy alone, Python 3.8."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np


class Engine:
    """Echoes, and does worse when asked to."""

    def __init__(self, fail: str = "") -> None:
        print("the engine starts")
        if fail == "raise":
            raise RuntimeError("no display")
        if fail == "die":
            os._exit(5)
        self.n = 0

    def echo(self, *values, **named):
        return [*values, named] if named else list(values)

    def count(self):
        self.n += 1
        return self.n

    def picture(self, height, width, fill):
        return np.full((height, width, 3), fill, np.uint8)

    def loaded(self, *modules):
        for module in modules:
            __import__(module)
        return sorted({name.split(".")[0] for name in sys.modules})

    def own(self):
        return sorted(name for name in sys.modules if name.startswith("harness"))

    def path(self):
        return list(sys.path)

    def grandchild(self):
        self.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return [os.getpid(), self.child.pid]

    def die(self, status):
        print("java.lang.OutOfMemoryError: heap\nlast line")
        sys.stdout.flush()
        os._exit(status)

    def abort(self):
        os.abort()

    def hang(self, seconds):
        print("hanging")
        time.sleep(seconds)

    def fail(self):
        raise ValueError("bad mood")

    def unspeakable(self):
        return object()

    def garbage(self, text):
        """Something of its own on the line that is ours."""
        os.write(int(sys.argv[1]), text)

    def close(self):
        """Nothing to let go of."""
