"""The verb `espalier evaluate parity`: two engines, one model, the same prompts."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import EXIT_FAILED, UsageError
from espalier.verbs import add_verb

if TYPE_CHECKING:
    from espalier.evaluate.parity import Parity

ENGINES = ("transformers", "vllm", "vllm-server")
SHOWN = 10


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `parity`."""
    parser = add_verb(
        subparsers,
        "parity",
        _run,
        summary="compare two engines on one model: greedy tokens and log-probabilities",
        example="espalier evaluate parity runs/demo/ppo --set runs/demo/curate/eval.jsonl",
    )
    parser.add_argument("model", metavar="MODEL", help="a model folder, RUN/STAGE, or a hub name")
    parser.add_argument(
        "--set",
        dest="prompts",
        metavar="FILE",
        required=True,
        help="prompts, in any dataset format",
    )
    parser.add_argument(
        "--engines",
        nargs=2,
        choices=ENGINES,
        default=("transformers", "vllm"),
        metavar="ENGINE",
        help=f"the engine that answers and the one compared with it, of {', '.join(ENGINES)} "
        "(default: transformers vllm)",
    )
    parser.add_argument("--limit", type=int, default=64, metavar="N", help="prompts (64)")
    parser.add_argument(
        "--max-tokens", type=int, default=128, metavar="N", help="longest answer (128)"
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="number type of both engines (default: as the weights are stored)",
    )
    parser.add_argument("--template", help="prompt template (default: the model's own)")
    parser.add_argument(
        "--least",
        type=float,
        default=None,
        metavar="SHARE",
        help="share of tokens that must agree (0.99)",
    )
    parser.add_argument(
        "--tie",
        type=float,
        metavar="NATS",
        help="what counts as rounding (default: 0.001 in float32, 0.05 in float16, 0.25 in "
        "bfloat16)",
    )
    parser.add_argument(
        "--trust-remote-code",
        metavar="MODEL",
        action="append",
        default=[],
        help="run the code that comes with this model (a folder or hub name; repeatable)",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything to this file too")


def _run(args: argparse.Namespace) -> int:
    from espalier.own_code import allowing

    with allowing(args.trust_remote_code):
        return _compare(args)


def _compare(args: argparse.Namespace) -> int:
    from espalier.evaluate.parity import LEAST_AGREEMENT, compare_engines
    from espalier.files import atomic_write_json
    from espalier.models import model_location

    for name in ("limit", "max_tokens"):
        if getattr(args, name) < 1:
            raise UsageError(
                f"--{name.replace('_', '-')} is {getattr(args, name)}.", expected="≥ 1"
            )
    if args.least is not None and not 0 <= args.least <= 1:
        raise UsageError(f"--least is {args.least}.", expected="a share from 0 to 1, e.g. 0.99")
    if args.tie is not None and not 0 <= args.tie < math.inf:
        raise UsageError(f"--tie is {args.tie}.", expected="nats, from 0")
    if args.json and not Path(args.json).absolute().parent.is_dir():
        raise UsageError(f"The folder of --json {args.json} does not exist.")
    location = model_location(args.model)
    requests, stop = _requests(location, args)
    first, second = (_engine(name, location, args) for name in args.engines)
    parity = compare_engines(
        first,
        second,
        requests,
        max_tokens=args.max_tokens,
        tie=_tie(location, args),
        least=LEAST_AGREEMENT if args.least is None else args.least,
        stop=stop,
    )
    if args.json:
        facts = {"model": args.model, "engines": list(args.engines), "dtype": args.dtype}
        atomic_write_json(Path(args.json), facts | parity.to_json())
    answered, compared = args.engines
    print(describe(parity, answered, compared, _decoder(location)))
    return EXIT_FAILED if parity.verdict == "different" else 0


def _engine(name: str, location: str, args: argparse.Namespace) -> Any:
    from espalier.engines import open_engine
    from espalier.engines.base import EngineSpec

    return open_engine(EngineSpec(engine=name, model=location, options={"dtype": args.dtype}))


def _requests(location: str, args: argparse.Namespace) -> tuple[list[Any], tuple[str, ...]]:
    """Prompts as token ids, cut so that prompt, answer and one token more fit the context."""
    from espalier.evaluate.config import EvaluateConfig, ModelConfig
    from espalier.evaluate.evalset import read_set
    from espalier.evaluate.prompts import Prompts
    from espalier.evaluate.subjects import Subject

    config = ModelConfig(name="model", path=location, template=args.template)
    options = EvaluateConfig(models=[config])
    prompts = Prompts(Subject(config, "folder", args.model, location), options, None)
    path = Path(args.prompts).expanduser()
    rows = read_set(path, limit=args.limit, shown=args.prompts).rows
    return prompts.requests(rows, args.max_tokens + 1), prompts.stop


def _tie(location: str, args: argparse.Namespace) -> float:
    from espalier.adapted import base_source, is_adapter
    from espalier.engines.vllm_options import stored_dtype
    from espalier.evaluate.parity import TIES

    if args.tie is not None:
        return float(args.tie)
    whole = str(base_source(location)) if is_adapter(location) else location
    dtype = stored_dtype(whole) if args.dtype == "auto" else args.dtype
    return TIES.get(dtype, TIES["bfloat16"])


def _decoder(location: str) -> Any:
    from espalier.models import load_tokenizer

    tokenizer = load_tokenizer(location)
    return lambda token: repr(tokenizer.decode([token]))


def describe(parity: Parity, a: str, b: str, decode: Any = str) -> str:
    """The result in words; the first divergences one by one."""
    facts = parity.to_json()
    apart = facts["logprob_difference"]
    lines = [
        f"{a} and {b}: {parity.verdict}",
        f"  tokens that {b} would choose too: {parity.agreement:.2%} of {parity.tokens:,} "
        f"(at least {parity.least:.2%} wanted)",
        f"  answers equal to their last token: {parity.equal_answers:,} of {len(parity.prompts):,}",
        f"  log-probabilities apart: mean {apart['mean']:.2g}, 99 % below {apart['p99']:.2g}, "
        f"most {apart['max']:.2g} nats",
    ]
    unexplained = sum(not one.tie for one in parity.divergences)
    if parity.divergences:
        lines.append(
            f"  divergences: {len(parity.divergences):,}, of which {unexplained:,} are more than "
            f"rounding (over {parity.tie:g} nats):"
        )
    ordered = sorted(parity.divergences, key=lambda one: -one.gap)
    for one in ordered[:SHOWN]:
        lines.append(
            f"    prompt {one.prompt + 1}, token {one.position + 1}: {a} {decode(one.a)}, "
            f"{b} {decode(one.b)}, {one.gap:.2g} nats{' (a tie)' if one.tie else ''}"
        )
    if len(ordered) > SHOWN:
        lines.append(f"    … and {len(ordered) - SHOWN:,} smaller ones")
    return "\n".join(lines)
