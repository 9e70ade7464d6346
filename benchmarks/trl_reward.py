"""TRL's RewardTrainer on given token ids."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl import RewardConfig, RewardTrainer
from worker import Clock, rows, settings, tell


class Ends(TrainerCallback):
    """Marks the end of each optimizer step."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self._clock.mark()


def main() -> None:
    given = settings()
    data = rows(given["data"], given["steps"] * given["minibatch"])
    model = AutoModelForSequenceClassification.from_pretrained(
        given["model"], dtype=torch.float32, num_labels=1
    )
    # "default": the precision and the checkpointing that TRL chooses where nothing is said.
    chosen: dict[str, Any] = {}
    if not given["default"]:
        chosen = {"bf16": given["bf16"], "gradient_checkpointing": given["checkpointing"]}
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = RewardTrainer(
            model,
            RewardConfig(
                output_dir=folder,
                per_device_train_batch_size=given["minibatch"],
                max_length=given["cap"],
                learning_rate=given["learning_rate"],
                lr_scheduler_type="cosine",
                weight_decay=0.0,
                max_grad_norm=given["max_grad_norm"],
                center_rewards_coefficient=1e-3,
                optim="adamw_torch",
                num_train_epochs=1,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_steps=10,
                dataloader_pin_memory=False,
                **chosen,
            ),
            train_dataset=Dataset.from_list(
                [{"chosen_ids": row["chosen"], "rejected_ids": row["rejected"]} for row in data]
            ),
            processing_class=AutoTokenizer.from_pretrained(given["model"]),
        )
        collate = trainer.data_collator

        def counted(examples: list[dict[str, Any]]) -> Any:
            clock.did(sum(len(e["chosen_ids"]) + len(e["rejected_ids"]) for e in examples))
            return collate(examples)

        trainer.data_collator = counted
        trainer.add_callback(Ends(clock))
        trainer.train()
    tell(clock.result(bf16=trainer.args.bf16, checkpointing=trainer.args.gradient_checkpointing))


if __name__ == "__main__":
    main()
