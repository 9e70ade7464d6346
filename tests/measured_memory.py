"""Trains a small model for two steps in a process of its own and prints the memory it took: what
the C library has given out at the peak, and the most that was resident."""

from __future__ import annotations

import ctypes
import json
import sys
import threading
import time
from pathlib import Path


class MallInfo(ctypes.Structure):
    """What glibc's mallinfo2 tells."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    )  # fmt: skip


def main(folder: Path) -> None:
    import tiny
    import torch

    from espalier.encoding import Encoded
    from espalier.machine import this_machine
    from espalier.train.config import SFTConfig
    from espalier.train.monitor import peak_memory_mib
    from espalier.train.tasks import NextToken
    from espalier.train.trainer import fit

    library = ctypes.CDLL("libc.so.6")
    library.mallinfo2.restype = MallInfo

    def in_use() -> int:
        info = library.mallinfo2()
        return int(info.uordblks + info.hblkhd)

    model = tiny.model(
        vocabulary=2000,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        initializer_range=0.02,
    ).train()
    rows = [
        Encoded([5 + (i * 7) % 1990 for i in range(256)], [i >= 128 for i in range(256)])
        for _ in range(16)
    ]
    options = SFTConfig(
        minibatch=16, token_budget=2048, max_length=256, epochs=2, checkpoint_every=1000
    )
    before = in_use() - 4 * sum(p.numel() for p in model.parameters())
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], in_use())
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    fit(model, rows, NextToken(0), options, folder=folder, seed=1)
    stop.set()
    thread.join()
    resident = int(peak_memory_mib(torch.device("cpu")) * 2**20)
    told = {"in_use": peak[0] - before, "resident": resident, "bf16": this_machine().bf16}
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
