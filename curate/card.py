"""The dataset card of a curate folder: what the files hold, where it came from, what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import espalier
from espalier import own_code
from espalier.curate.card_text import CardFacts, card_text, escaped
from espalier.curate.config import CurateConfig, ProceduralSource
from espalier.curate.curation import AnySource, Curation
from espalier.curate.parts import Parts
from espalier.curate.sources import OpenFile
from espalier.curate.statistics import collect
from espalier.files import atomic_write_text

OWN_LICENSE = "Apache-2.0"


def write_card(
    curation: Curation, parts: Parts, statistics: Mapping[str, Any] | None = None
) -> None:
    """Write card.md (Markdown with the YAML head that dataset hubs read).

    `statistics` is what `collect` gave for the folder; without it the files are read again.
    """
    found = collect(curation.folder, seed=curation.seed) if statistics is None else statistics
    # The funnel of this run, also where its file is not written yet.
    found = {**found, "funnel": parts.funnel}
    atomic_write_text(curation.folder / "card.md", card_text(card_facts(curation, parts), found))


def card_facts(curation: Curation, parts: Parts) -> CardFacts:
    """What the card says beside the statistics: names, sources, licence, settings."""
    config = curation.config
    generators = _generator_lines(curation)
    synthetic = bool(generators) or any(
        isinstance(source, ProceduralSource) or source.source.answer
        for source in curation.all_sources
    )
    return CardFacts(
        name=curation.context.shared.name,
        made_by=f"Made by espalier {espalier.__version__}, seed {curation.seed}.",
        license=config.license or _common_licence(curation.all_sources) or "unknown",
        synthetic=synthetic,
        teacher_note=_teacher_note(curation) if synthetic else "",
        sources=[_source_line(source) for source in curation.all_sources] + generators,
        settings=_settings(curation),
        notes=parts.notes,
    )


def _common_licence(sources: Sequence[AnySource]) -> str | None:
    licences = {
        source.source.license if isinstance(source, OpenFile) else OWN_LICENSE for source in sources
    }
    return licences.pop() if len(licences) == 1 else None


def _teacher_note(curation: Curation) -> str:
    teacher = curation.context.shared.teacher
    text = f"The teacher was {escaped(str(teacher.model))} (engine: {escaped(teacher.engine)})."
    if teacher.engine == "offline":
        text += (
            " The offline teacher is a procedural program, not a language model; its answers "
            "have deliberate faults at known rates."
        )
    return text


def _source_line(source: AnySource) -> str:
    if isinstance(source, OpenFile):
        licence = source.source.license or "not stated"
        return (
            f"- `{source.name}` ({source.use}): `{Path(source.path).name}`, "
            f"{source.detection.format} ({escaped(source.detection.reason)}); licence "
            f"{escaped(licence)}"
        )
    if isinstance(source, ProceduralSource):
        return (
            f"- `{source.name}` ({source.use}): {source.count:,} prompts of the procedural task "
            f"generator, languages {', '.join(source.languages)}; licence {OWN_LICENSE}"
        )
    return (
        f"- `{source.name}` ({source.use}): the built-in safety set, languages "
        f"{', '.join(source.source.languages)}; licence {OWN_LICENSE}"
    )


def _generator_lines(curation: Curation) -> list[str]:
    """What the teacher wrote beside answers: tasks, evolved instructions, dialogues, revisions."""
    config = curation.config
    lines = []
    if config.self_instruct is not None:
        seeds = ", ".join(f"`{Path(name).name}`" for name in config.self_instruct.seeds)
        lines.append(
            f"- `self-instruct`: tasks written by the teacher after the seed tasks {seeds}"
        )
    if config.evolve is not None:
        lines.append("- `evolve`: instructions that the teacher made harder or wider, and answered")
    if config.self_chat is not None:
        lines.append("- `self-chat`: dialogues in which the teacher wrote both sides")
    if config.constitution is not None:
        names = ", ".join(f"`{Path(name).name}`" for name in config.constitution.principles)
        lines.append(
            f"- `constitution`: answers that the teacher criticised and revised by the principles "
            f"{names}"
        )
    return lines


def _settings(curation: Curation) -> list[str]:
    config = curation.config
    lines = []
    if config.holdout.count or config.holdout.prompts or config.holdout.against:
        lines.append(
            "The held-out rows were drawn first. No row is kept whose normalised prompt equals a "
            f"held-out one, or whose prompt has a {config.holdout.ngram}-gram Jaccard similarity "
            f"of {config.holdout.near_threshold} or more with one.{_of_dialogues(config)}\n"
        )
    changed = config.model_dump(mode="json", exclude={"sources"}, exclude_defaults=True)
    if changed:
        text = yaml.safe_dump(_without_folders(changed), sort_keys=False, allow_unicode=True)
        lines.append(f"Options that differ from the defaults:\n\n```yaml\n{text}```")
    else:
        lines.append("Every option has its default.")
    if models := own_code.used():
        names = [Path(model).name if Path(model).is_dir() else model for model in models]
        lines.append(
            "\nCode that comes with these models was run when they were loaded: "
            + ", ".join(f"`{name}`" for name in names)
            + "."
        )
    return lines


def _of_dialogues(config: CurateConfig) -> str:
    if config.dialogues is None or config.dialogues.max_tokens is None:
        return ""
    return " Of a split dialogue one part at most is held out, and none of its other parts is kept."


def _without_folders(value: Any) -> Any:
    """The same value with file names where there were paths: they may tell who made this."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and value.startswith(("/", "~")) and "\n" not in value:
        return Path(value).name
    # A fence inside would end the block of code.
    return value.replace("```", "'''") if isinstance(value, str) else value
