"""Our options in the words of transformers: TrainingArguments and the type of mixed precision."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_type_hints

import torch
import transformers
from pydantic import TypeAdapter, ValidationError

from espalier.errors import InputError, UsageError, require
from espalier.files import read_json
from espalier.train.config_parts import Optimisation

DEEPSPEED = Path(__file__).resolve().parent / "deepspeed"


def autocast_dtype(precision: str, device: str) -> torch.dtype | None:
    """The type of mixed precision on this device, None for plain float32.

    "auto": bf16 where the hardware multiplies it natively (recent GPUs; CPUs with AVX512-BF16
    or AMX), fp16 on older GPUs, fp32 elsewhere. Raises UsageError for fp16 on a CPU.
    """
    if precision == "fp32":
        return None
    if precision == "bf16":
        return torch.bfloat16
    if precision == "fp16":
        if device == "cpu":
            raise UsageError("precision: fp16 needs a GPU.", hint="use bf16, fp32 or auto")
        return torch.float16
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else None


def warmup_steps(warmup: float, total: int) -> int:
    """Steps of warm-up: a fraction of all where `warmup` is below 1, else that many.

    Raises UsageError where nothing would come after it.
    """
    steps = round(warmup * total) if warmup < 1 else int(warmup)
    if warmup >= 1 and steps >= total:
        raise UsageError(
            f"The warm-up takes {steps:,} steps, and the training has {total:,}.",
            where="warmup",
            expected=f"fewer than {total:,} steps, or a fraction below 1",
        )
    return steps


def deepspeed_config(
    given: Any, options: Optimisation, autocast: torch.dtype | None
) -> dict[str, Any]:
    """DeepSpeed's configuration: "zero2" or "zero3" (ours), a JSON file, or a mapping.

    Mixed precision is set to the recipe's: DeepSpeed refuses autocast that it does not know of.
    Its micro-batches have a fixed size that follows from `minibatch` and only enters its own
    logs; passes are cut by `token_budget` as everywhere, every process makes equally many of them
    (weights may be gathered by all at once), and the last one is said to be the boundary at
    which it steps. Raises MissingExtra where it is not installed, InputError for a file that is
    not there, UsageError beside options that exclude it.
    """
    require("deepspeed", extra="deepspeed", feature="trainer_arguments.deepspeed")
    if options.distributed == "fsdp":
        raise UsageError(
            "DeepSpeed and FSDP exclude each other.",
            where="distributed: fsdp beside trainer_arguments.deepspeed",
            hint="leave one out",
        )
    if options.optimizer not in ("adamw", "sgd"):
        raise UsageError(
            f"DeepSpeed flattens weights, and the optimizer {options.optimizer} needs matrices.",
            where=f"optimizer: {options.optimizer} beside trainer_arguments.deepspeed",
            hint="use adamw",
        )
    config = dict(given) if isinstance(given, dict) else _read_deepspeed(str(given))
    kind = str(autocast or torch.bfloat16).removeprefix("torch.")
    config["torch_autocast"] = {"enabled": autocast is not None, "dtype": kind}
    return config


def _read_deepspeed(name: str) -> dict[str, Any]:
    shipped = DEEPSPEED / f"{name}.json"
    path = shipped if shipped.is_file() else Path(name).expanduser()
    if not path.is_file():
        raise InputError(
            "A DeepSpeed configuration is not there.",
            where=f"trainer_arguments.deepspeed: {name}",
            expected="zero2, zero3, or a JSON file",
        )
    config: dict[str, Any] = read_json(path)
    return config


def training_arguments(
    options: Optimisation,
    folder: Path,
    *,
    seed: int,
    steps: int | None,
    total_steps: int,
    validation_every: int | None,
    autocast: torch.dtype | None,
) -> transformers.TrainingArguments:
    """Our options as TrainingArguments, with everything slow or chatty switched off.

    Raises UsageError for a `trainer_arguments` name that transformers does not know.
    """
    warmup = warmup_steps(options.warmup, total_steps)
    schedule: str = options.schedule
    if schedule == "constant" and warmup:
        schedule = "constant_with_warmup"
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": not torch.cuda.is_available(),
        "per_device_train_batch_size": options.minibatch,
        "num_train_epochs": options.epochs,
        "max_steps": steps or -1,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": schedule,
        "warmup_steps": warmup,
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.max_grad_norm,
        "fp16": autocast is torch.float16,
        "seed": seed,
        "logging_steps": options.log_every,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": options.checkpoint_every,
        "eval_strategy": "steps" if validation_every else "no",
        "eval_steps": validation_every,
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
        # Our models keep no running statistics.
        "ddp_broadcast_buffers": False,
        **options.trainer_arguments,
    }
    known = transformers.TrainingArguments.__dataclass_fields__
    for name in options.trainer_arguments:
        if name not in known:
            raise UsageError(
                f"transformers.TrainingArguments has no field '{name}'.",
                where="trainer_arguments",
                expected="a field of the installed version, "
                f"transformers {transformers.__version__}",
            )
    if options.distributed == "fsdp" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        values |= {"fsdp": True, "fsdp_config": {"version": 2}}
    if values.get("deepspeed"):
        values["deepspeed"] = deepspeed_config(values["deepspeed"], options, autocast)
    _check_types(options.trainer_arguments)
    try:
        arguments = transformers.TrainingArguments(**values)
    except (ValueError, TypeError, ImportError) as error:
        if not options.trainer_arguments:
            raise
        given = ", ".join(options.trainer_arguments)
        raise UsageError(
            f"transformers refuses the arguments passed on to it ({given}): {error}",
            where="trainer_arguments",
        ) from error
    # One process drives one device; several devices are several processes.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _check_types(given: dict[str, Any]) -> None:
    """Raise UsageError for a value that is not what its field of TrainingArguments holds."""
    hints = get_type_hints(transformers.TrainingArguments)
    for name, value in given.items():
        try:
            TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            raise UsageError(
                f"'{name}: {value}' is not what transformers takes.",
                where="trainer_arguments",
                expected=str(error.errors()[0]["msg"]),
            ) from error
