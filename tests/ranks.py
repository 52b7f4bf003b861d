"""Two processes of ``train.meta``, as torchrun would start them, that share their imports: those take the most time.

    python tests/ranks.py PORT [arguments of train.meta]

The children are rank 0 and rank 1, in this order; the exit code is 0 if both of theirs are.
"""

from __future__ import annotations

import os
import sys
import traceback

import torch
import typer

from train.meta import main


def become(rank: int, port: str) -> int:
    """Runs one process of the group in this one; its exit code."""
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= here | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
    try:
        typer.run(main)
    except SystemExit as end:
        return int(end.code or 0)
    except Exception:  # noqa: BLE001 -- a forked process must not fall back into its parent's code
        traceback.print_exc()
    return 1


if __name__ == "__main__":
    port = sys.argv.pop(1)
    torch.set_num_threads(1)
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            code = become(rank, port)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # gloo's threads may abort an orderly exit
        children.append(child)
    sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
