# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/check-layers finds what it is there for, and nothing else."""
import pathlib
import subprocess

import pytest

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "tools" / "check-layers"


def run(root):
    return subprocess.run([PROGRAM, root], capture_output=True, text=True, check=False)


def put(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name, text", [
    ("src/virtio/virtqueue.c", '#include "base/util.h"\n#include "worker/worker.h"\n'),
    ("src/blk/blk.c", '#include "blk/blk.h"\n#include <liburing.h>\n#include "store/store.h"\n'),
    ("src/slo/slo.c", "/* never calls clock_now_ns() */\nint runtime(int t);\n"),
    ("src/daemon/main.c", '#include "ctl/ctl.h"\n'),
    ("frontend/frontend.c", '#include "virtio/wire.h"\n#include "frontend/frontend.h"\n'),
])
def test_downwards_is_allowed(tmp_path, name, text):
    put(tmp_path, name, text)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name, text, line", [
    ("src/base/log.c", '#include "base/log.h"\n#include "worker/worker.h"\n', 2),
    ("src/store/file.c", '  #  include "blk/blk.h"\n', 1),
    ("src/store/file.c", '#include "uplink/tap.h"\n', 1),
    ("src/slo/slo.h", "\n\nuint64_t now = clock_now_ns();\n", 3),
    ("src/extra/new.c", "", None),
    ("frontend/frontend.c", '#include "vhost/session.h"\n', 1),
    ("guest/tool.c", '#include "base/util.h"\n', 1),
])
def test_upwards_and_sideways_are_found(tmp_path, name, text, line):
    put(tmp_path, name, text)
    done = run(tmp_path)
    assert done.returncode == 1
    place = f"{tmp_path / name}:{line}: " if line else str(pathlib.PurePath(name).parent)
    assert place in done.stdout
