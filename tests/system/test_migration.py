# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest moves from one daemon to another and back under write load; both daemons serve the same image."""
from helpers import Churn, disk, file_policy, ring_errors
from harness.guest import migrate

MOVES = 10


def test_migration_under_write_load(lab):
    policy = file_policy(("disk", 32, {"queues": 2}))
    first = lab.daemon(policy)
    policy["pools"]["files"]["directory"] = str(first.pool)
    daemons = [first, lab.daemon(policy)]

    def machine(daemon, **settings):
        return lab.guest([disk(daemon, queues=2)], cpus=2, memory_mib=192, **settings)

    guest = machine(daemons[0])
    load = Churn(guest, depth=32)
    for move in range(MOVES):
        target = machine(daemons[(move + 1) % 2], boot=False, incoming=True).start()
        info = migrate(guest, target)
        print(f"move {move + 1}: {info['total-time']} ms in all, {info['downtime']} ms down")
        guest.quit()
        guest = load.guest = target
        load.must_run()
    assert load.finish()["writes"] > 0
    assert ring_errors(guest) == []
