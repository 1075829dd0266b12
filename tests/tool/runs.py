"""The simulated runs that test_see.c writes: captures, logs, and plain lists of what happened."""
import os
import subprocess

import tool


class Runs:
    """Written once, since all tests only read them."""
    folder = None

    @classmethod
    def path(cls, name):
        if cls.folder is None:
            cls.context = tool.folder()
            cls.folder = cls.context.__enter__()
            subprocess.run([os.path.join(tool.BUILD, "tests/tool/test_see"), "--write", cls.folder],
                           check=True, timeout=120)
        return os.path.join(cls.folder, name)

    @classmethod
    def remove(cls):
        if cls.folder:
            cls.context.__exit__(None, None, None)
