"""The text of a new recipe: YAML with a comment at every choice, in English or Chinese."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from espalier.data_facts import DataFacts
from espalier.estimates import model_line
from espalier.new_choices import PROMPT, RANK, Choices, Wishes
from espalier.new_estimate import estimate
from espalier.new_rows import Left
from espalier.new_writer import Language, Writer, scalar
from espalier.stages import NAMES

# Part of the rows from which a language counts as one of the data's own.
_OWN_LANGUAGE = 0.02
# What is said of `max_length`: what keeps it from being larger, and what becomes of longer rows,
# by whether `dialogues` splits them.
_LENGTH = {
    "all": ("covers all rows", "覆盖所有行"),
    "rows": ("covers 99 % of the rows", "覆盖 99 % 的行"),
    "memory": ("memory allows no more", "内存所限"),
    "positions": ("the model takes no more", "模型所限"),
}
_LONGER = {
    False: ("longer rows lose the start of their prompt", "更长的行从提示开头截断"),
    True: ("longer dialogues are split between turns", "更长的对话在轮次之间切开"),
}
# What is said of the longest answer that is asked for: which of the data's are no longer.
_ANSWERED = {
    "all": ("no last answer of the data is longer", "数据中每段对话的最后回答都不更长"),
    "most": (
        "95 % of the data's last answers are no longer; a model's longer answer is cut",
        "数据中 95 % 的最后回答不超过此长度；模型更长的回答会被截断",
    ),
    "limit": (
        "1,024 or half of the positions at most; over 5 % of the data's last answers are longer",
        "最多 1,024 或模型位置数的一半；数据中超过 5 % 的最后回答更长",
    ),
}
# What the methods are called where they are compared.
METHOD_NAMES = {
    "sft": ("all weights", "全部权重"),
    "lora": ("LoRA", "LoRA"),
    "qlora": ("QLoRA", "QLoRA"),
    "prompt-tuning": ("learnt prompt", "可学习的提示"),
    "freeze": ("later blocks", "后半部分的层"),
}


def own_path(text: str) -> str:
    """A path as a recipe takes it: one that begins like a stage's folder is made absolute; the
    name of a data set of the hub (`hf://…`) is none."""
    if text.startswith("hf:"):
        return text
    path = Path(text).expanduser()
    if not path.is_absolute() and path.parts and path.parts[0] in NAMES:
        path = path.absolute()
    return str(path)


def recipe_text(
    name: str, wishes: Wishes, choices: Choices, language: Language, price: float | None = None
) -> str:
    """The whole recipe."""
    out = Writer(language)
    _head(out, wishes, choices, price)
    out.put(0, "name", name, "of the folder below runs/", "runs/ 下的文件夹名")
    files = ", ".join(Path(facts.path).name for facts in (*wishes.examples, *wishes.pairs))
    told = ", ".join((*choices.methods, *(["ppo"] if choices.ppo else [])))
    out.put(
        0,
        "description",
        out.say(f"{files}: base against {told}", f"{files}：基础模型与 {told} 对比"),
    )
    out.put(0, "seed", 1)
    out.blank()
    _curate(out, wishes, choices)
    out.blank()
    _train(out, wishes, choices)
    out.blank()
    _evaluate(out, wishes, choices)
    out.blank()
    out.lines.append("report: {}")
    if choices.many:
        out.blank()
        _sweep(out, wishes, choices)
    return out.text()


# What was found ---------------------------------------------------------------------------


def _head(out: Writer, wishes: Wishes, choices: Choices, price: float | None) -> None:
    command = "sweep" if choices.many else "run"
    out.comment(
        f"Run it with `espalier {command} THIS_FILE`; `espalier recipe explain THIS_FILE` shows "
        "every option.",
        f"运行：`espalier {command} 本文件`；`espalier recipe explain 本文件` 列出所有选项。",
    )
    out.lines.append("#")
    for facts, left in zip(wishes.examples, choices.left, strict=True):
        for line in (*data_lines(out, facts), *left_lines(out, left, choices.part_tokens)):
            out.lines.append(f"# {line}")
    for facts in wishes.pairs:
        for line in data_lines(out, facts):
            out.lines.append(f"# {line}")
    model = (
        model_line(wishes.model, chinese=out.chinese)
        if wishes.model
        else out.say("not here, nothing is known of it", "不在本机，对其一无所知")
    )
    out.comment(f"Model: {wishes.model_name}: {model}", f"模型：{wishes.model_name}：{model}")
    machine = wishes.machine.in_words()
    out.comment(f"Machine: {machine}", f"机器：{machine}")
    for method, line in estimate(wishes, choices, price, chinese=out.chinese):
        out.comment(f"Estimate, {method}: {line}", f"估计（{method}）：{line}")
    out.blank()


def data_lines(out: Writer, facts: DataFacts) -> Iterator[str]:
    """What was seen in a file, in two or three lines."""
    shares = ", ".join(f"{name} {_percent(part)}" for name, part in facts.language_shares()[:4])
    yield out.say(
        f"Data: {facts.path}: {facts.format}, {facts.rows:,} rows, {facts.bad:,} bad; {shares}",
        f"数据：{facts.path}：{facts.format}，{facts.rows:,} 行，坏行 {facts.bad:,}；{shares}",
    )
    how = "" if facts.counted else out.say(" (estimated)", "（估计）")
    lengths = "/".join(f"{facts.quantile(p):,}" for p in (50, 95, 100))
    answers = "/".join(f"{facts.quantile(p, 'answer'):,}" for p in (50, 95, 100))
    yield out.say(
        f"  tokens{how}, median/95 %/longest: row {lengths}, answer {answers}",
        f"  词元数{how}，中位/95 %/最长：整行 {lengths}，回答 {answers}",
    )
    yield out.say(
        f"  {facts.repeated:,} rows repeat a prompt; {facts.several_turns:,} have several turns, "
        f"{facts.system:,} a system text",
        f"  {facts.repeated:,} 行的提示重复；{facts.several_turns:,} 行是多轮对话，"
        f"{facts.system:,} 行带系统提示",
    )


def left_lines(out: Writer, left: Left, limit: int) -> Iterator[str]:
    """What curation will take from a file, where it is more than repeats."""
    if left.split:
        yield out.say(
            f"  {_percent(left.split)} of the rows are longer than {limit:,} tokens and are split: "
            f"{left.parts:,} rows from {left.dialogues:,}",
            f"  {_percent(left.split)} 的行超过 {limit:,} 个词元，将被切开："
            f"{left.dialogues:,} 行变为 {left.parts:,} 行",
        )
    if left.too_long:
        yield out.say(
            f"  {left.too_long:,} questions with their answers are longer than that by themselves "
            "and are left out",
            f"  {left.too_long:,} 组问答自身已超过此长度，将被舍去",
        )
    if left.overlap:
        yield out.say(
            f"  {_percent(left.overlap)} of the rows share questions or passages with the test set "
            f"and are removed: {left.facts.rows:,} are left",
            f"  {_percent(left.overlap)} 的行与测试集有相同的问题或段落，将被去除："
            f"剩 {left.facts.rows:,} 行",
        )


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %" if part >= 0.001 else "<0.1 %"


# Sections -----------------------------------------------------------------------------------


def _curate(out: Writer, wishes: Wishes, choices: Choices) -> None:
    out.put(0, "curate")
    out.put(1, "sources")
    for facts in (*wishes.examples, *wishes.pairs):
        out.lines.append(f"    - path: {scalar(own_path(facts.path))}")
        if facts.bad:
            out.put(
                3,
                "on_bad_row",
                "quarantine",
                f"{facts.bad:,} rows can't be read; they go to rejects.jsonl",
                f"{facts.bad:,} 行无法读取，写入 rejects.jsonl",
            )
    _languages(out, wishes.examples)
    if choices.dialogues:
        out.put(
            1,
            "dialogues",
            None,
            "turns have to alternate; longer dialogues are split between turns",
            "角色须交替；过长的对话在轮次之间切开",
        )
        out.put(2, "max_tokens", choices.part_tokens)
        folder = wishes.model.folder if wishes.model else None
        if folder is not None and (folder / "tokenizer.json").is_file():
            out.put(2, "tokenizer", own_path(str(folder)))
    repeated = sum(facts.repeated for facts in wishes.examples)
    out.put(1, "dedup", None, f"{repeated:,} rows repeat a prompt", f"{repeated:,} 行的提示重复")
    out.put(
        2,
        "key",
        "prompt",
        "prompt+answer keeps several answers to one prompt",
        "prompt+answer 保留同一提示的不同回答",
    )
    out.comment(
        "near: {on: prompt+answer, threshold: 0.8}   near duplicates too",
        "near: {on: prompt+answer, threshold: 0.8}   近似重复也去除",
        2,
    )
    out.comment(
        "pii: {}   mask e-mail addresses, phone numbers and the like",
        "pii: {}   遮盖邮箱、电话等个人信息",
        1,
    )
    if wishes.evaluation is not None:
        path = own_path(wishes.evaluation.path)
        out.put(
            1,
            "decontaminate",
            None,
            "no training row near the evaluation set",
            "训练数据与评测集不重叠",
        )
        out.put(2, "against", [path])
    if choices.holdout or choices.prompts:
        held: dict[str, int] = {"count": choices.holdout}
        if choices.prompts:
            held["prompts"] = choices.prompts
        out.put(
            1,
            "holdout",
            held,
            "drawn first; never trained on" + (", prompts for PPO" if choices.prompts else ""),
            "最先抽出，不参与训练" + ("；prompts 供 PPO 使用" if choices.prompts else ""),
        )
    if choices.ppo:
        out.put(
            1,
            "preferences",
            {"eval_count": choices.eval_pairs},
            "pairs kept for the evaluation's reward model",
            "留给评测用奖励模型的偏好对",
        )


def _languages(out: Writer, files: Sequence[DataFacts]) -> None:
    shares = [share for facts in files for share in facts.language_shares()]
    own = list(dict.fromkeys(n for n, part in shares if part >= _OWN_LANGUAGE and n != "other"))
    rest = [n for n, part in shares if part < _OWN_LANGUAGE]
    if own and rest:
        out.comment(
            f"filters: {{languages: [{', '.join(own)}]}}   a few rows are in others",
            f"filters: {{languages: [{', '.join(own)}]}}   少数行是其他语言",
            1,
        )


def _train(out: Writer, wishes: Wishes, choices: Choices) -> None:
    load, plan = choices.load, choices.plan
    first = choices.methods[0]
    out.put(0, "train")
    out.put(1, "sft")
    out.put(2, "model", own_path(wishes.model_name))
    if choices.template is not None:
        known = wishes.model is not None and wishes.model.source != "name"
        out.put(
            2,
            "template",
            choices.template,
            "the model has none of its own" if known else "leave it out if the model has its own",
            "模型自身没有模板" if known else "若模型自带模板，请删去",
        )
    en, zh = _LENGTH[choices.bound]
    if choices.bound != "all":
        longer, more = _LONGER[choices.dialogues]
        en, zh = f"{en}; {longer}", f"{zh}；{more}"
    out.put(2, "max_length", choices.max_length, en, zh)
    out.put(
        2, "epochs", plan.epochs, "1 to 3 are usual; more for few rows", "通常 1～3 遍，数据少则多"
    )
    out.put(
        2,
        "minibatch",
        plan.minibatch,
        f"rows a step: {plan.steps:,} steps",
        f"每步的行数：共 {plan.steps:,} 步",
    )
    out.put(
        2,
        "learning_rate",
        choices.rate(first),
        "2e-5 is usual for all weights of 7 billion; smaller models take more",
        "70 亿参数全量微调常用 2e-5；模型越小可越大",
    )
    out.put(
        2,
        "token_budget",
        load.token_budget,
        "tokens a pass: memory, not result",
        "一次前向的词元数：只影响内存",
    )
    if load.checkpointing:
        out.put(
            2,
            "gradient_checkpointing",
            True,
            "less memory, a third more time",
            "省内存，时间多约三分之一",
        )
    if load.sharded:
        out.put(
            2,
            "distributed",
            "fsdp",
            "each GPU holds a part; run with --processes",
            "每块 GPU 持有一部分；运行时加 --processes",
        )
    if choices.packing:
        out.put(2, "packing", "auto", "rows are far shorter than the longest", "多数行远短于最长行")
    for key, value in method_keys(first, wishes, choices).items():
        if key != "learning_rate":
            out.put(2, key, value)
    if choices.validation:
        every = max(1, plan.steps // 10)
        out.put(2, "validation", {"fraction": choices.validation, "every": every})
    if choices.ppo:
        _ppo(out, wishes, choices)


def _ppo(out: Writer, wishes: Wishes, choices: Choices) -> None:
    size = wishes.model.parameters if wishes.model else 7e9
    small = size < 20e6
    shared: dict[str, Any] = {
        "max_length": choices.max_length,
        "learning_rate": 1e-3 if small else 1e-5,
        "token_budget": choices.ppo_load.token_budget,
    }
    if choices.ppo_load.checkpointing:
        shared["gradient_checkpointing"] = True
    if choices.load.sharded:
        shared["distributed"] = "fsdp"
    if choices.ppo != "full":
        shared["lora"] = {"r": RANK}
    for name in ("reward", "reward_eval"):
        out.put(
            1,
            name,
            None,
            "what PPO is trained against" if name == "reward" else "what only measures",
            "PPO 训练所用" if name == "reward" else "只用于评测",
        )
        start = {"model": own_path(wishes.model_name)} if name == "reward_eval" else {}
        for key, value in {**start, **shared}.items():
            out.put(2, key, value)
    out.put(1, "ppo")
    out.put(2, "learning_rate", 1e-4 if small else 5e-6 if size < 1e9 else 1e-6)
    out.put(2, "max_prompt_tokens", choices.prompt_tokens)
    out.put(2, "max_new_tokens", choices.answer_tokens, *_ANSWERED[choices.answered])
    out.put(2, "token_budget", choices.ppo_load.token_budget)
    if choices.ppo_load.checkpointing:
        out.put(2, "gradient_checkpointing", True)
    if choices.ppo != "full":
        out.put(2, "lora", {"r": RANK}, "memory: all weights would not fit", "内存放不下全部权重")
    if choices.ppo == "shared":
        out.put(2, "critic", "shared", "and a critic of its own would not", "也放不下单独的 critic")


def method_keys(method: str, wishes: Wishes, choices: Choices) -> dict[str, Any]:
    """The keys below `train.sft` that make a training of this method."""
    keys: dict[str, Any] = {"learning_rate": choices.rate(method)}
    if method in ("lora", "qlora"):
        keys["lora"] = {"r": RANK, "alpha": 2 * RANK}
        if method == "qlora":
            keys["lora"]["quantise"] = "4bit"
    elif method == "prompt-tuning":
        keys["prompt_tuning"] = {"tokens": PROMPT}
    elif method == "freeze" and wishes.model is not None:
        keys["freeze_layers"] = f"0-{max(0, wishes.model.shape.layers // 2 - 1)}"
    return keys


def _evaluate(out: Writer, wishes: Wishes, choices: Choices) -> None:
    out.put(0, "evaluate")
    if wishes.evaluation is not None:
        out.put(1, "set", own_path(wishes.evaluation.path))
    out.put(1, "models")
    base: dict[str, Any] = {"name": "base", "path": own_path(wishes.model_name)}
    if choices.template is not None:
        base["template"] = choices.template
    for model in (base, {"name": "sft", "stage": "sft"}, {"name": "ppo", "stage": "ppo"}):
        if choices.ppo or model["name"] != "ppo":
            out.lines.append(f"    - {scalar(model)}")
    out.put(1, "baseline", "base")
    if choices.ppo:
        out.put(1, "reward_model", "reward_eval")
    en, zh = _ANSWERED[choices.answered]
    out.put(
        1, "sampling", {"max_tokens": choices.answer_tokens}, f"greedy; {en}", f"贪心解码；{zh}"
    )


def _sweep(out: Writer, wishes: Wishes, choices: Choices) -> None:
    several = len(choices.methods) > 1
    out.put(0, "sweep")
    last = "ppo" if choices.ppo else "sft"
    out.put(1, "question", _question(choices))
    if several:
        out.put(1, "variants")
        names = _changed_keys(wishes, choices)
        for method in choices.methods:
            keys = (
                {}
                if method == choices.methods[0]
                else {
                    f"train.sft.{key}": value
                    for key, value in {**names, **method_keys(method, wishes, choices)}.items()
                }
            )
            name = scalar(METHOD_NAMES[method][out.chinese])
            out.lines.append(f"    {name}: {scalar(keys)}")
    out.put(
        1, "seeds", choices.seeds, "repeats: what the interval is over", "重复次数，用于置信区间"
    )
    out.put(
        1,
        "reseed",
        ["train.sft.seed", *(["train.ppo.seed"] if choices.ppo else [])],
        "the data stay the same; they are made once",
        "数据保持不变，只制作一次",
    )
    answer: dict[str, Any] = {"metric": choices.metric}
    answer |= {"model": last} if several else {"models": ["base", last]}
    out.put(1, "answer", answer)


def _question(choices: Choices) -> dict[str, str]:
    """What the sweep answers: of the last model of each run, which is PPO's where there is one."""
    if len(choices.methods) == 1:
        last = "PPO" if choices.ppo else "SFT"
        return {
            "en": f"Does {last} give better answers than the base model?",
            "zh": f"{last} 的回答是否比基础模型更好？",
        }
    en, zh = (
        mark.join(METHOD_NAMES[method][place] for method in choices.methods)
        for place, mark in enumerate((", ", "、"))
    )
    if choices.ppo:
        return {
            "en": f"After which supervised training does PPO give the better answers: {en}?",
            "zh": f"先做哪种监督微调，PPO 之后的回答更好：{zh}？",
        }
    return {
        "en": f"Which training gives the better answers: {en}?",
        "zh": f"哪种训练的回答更好：{zh}？",
    }


def _changed_keys(wishes: Wishes, choices: Choices) -> dict[str, None]:
    """The keys of the recipe's own method, taken out for the others."""
    own = method_keys(choices.methods[0], wishes, choices)
    return {key: None for key in own if key != "learning_rate"}
