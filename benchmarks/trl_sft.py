"""TRL's SFTTrainer on given token ids: padded, or packed (bfd)."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer
from worker import Clock, rows, settings, tell


class Ends(TrainerCallback):
    """Marks the end of each optimizer step."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self._clock.mark()


def main() -> None:
    given = settings()
    packed = given["packed"]
    data = rows(given["data"], given["steps"] * given["minibatch"])
    if packed:
        mean = sum(len(row["ids"]) for row in data) / len(data)
        # As many tokens an optimizer step as the others have.
        packs = max(1, round(given["minibatch"] * mean / given["cap"]))
        batch, accumulation = (1, packs) if given["one_pack"] else (packs, 1)
    else:
        batch, accumulation = given["minibatch"], 1
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model,
            SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulation,
                max_length=given["cap"],
                packing=packed,
                packing_strategy="bfd",
                learning_rate=given["learning_rate"],
                lr_scheduler_type="cosine",
                weight_decay=0.0,
                max_grad_norm=given["max_grad_norm"],
                optim="adamw_torch",
                num_train_epochs=1,
                bf16=given["bf16"],
                gradient_checkpointing=given["checkpointing"],
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_steps=10,
                dataloader_pin_memory=False,
            ),
            train_dataset=Dataset.from_list([labelled(row) for row in data]),
            processing_class=AutoTokenizer.from_pretrained(given["model"]),
        )
        collate = trainer.data_collator
        pending = [0, 0]

        def counted(examples: list[dict[str, Any]]) -> Any:
            pending[0] += sum(len(example["input_ids"]) for example in examples)
            pending[1] += 1
            if pending[1] == accumulation:
                clock.did(pending[0])
                pending[:] = 0, 0
            return collate(examples)

        trainer.data_collator = counted
        trainer.add_callback(Ends(clock))
        trainer.train()
    if len(clock.work) < len(clock.marks):
        clock.did(pending[0])
    tell(
        clock.result(losses=[line["loss"] for line in trainer.state.log_history if "loss" in line])
    )


def labelled(row: dict[str, Any]) -> dict[str, Any]:
    """A row as TRL takes it: -100 where nothing is learnt."""
    ids, trained = row["ids"], row["trained"]
    return {
        "input_ids": ids,
        "labels": [token if learnt else -100 for token, learnt in zip(ids, trained, strict=True)],
    }


if __name__ == "__main__":
    main()
