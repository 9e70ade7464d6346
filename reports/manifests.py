"""Provenance: what each stage's manifest says, the resolved recipe, and how to do it again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espalier import progress
from espalier.reports.runfiles import read_object
from espalier.reports.strings import known, pretty, t
from espalier.stages import NAMES as STAGE_NAMES

# A value of such a key is never shown, wherever it comes from; `api_key_env` names a variable.
_SECRET = re.compile(
    r"^(\s*(?:- )?\s*[\"']?[\w-]*(?:api_?key|secret|password|token)[\"']?\s*:\s*)(\S.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_CREDENTIALS = re.compile(r"(\w+://)[^/\s@:]+:[^/\s@]+@")
HIDDEN = "(hidden)"


def read_stages(run: Path) -> list[dict[str, Any]]:
    """The finished stages of the run in their order, with their manifests made readable."""
    found = []
    for name in STAGE_NAMES:
        if name == "report":
            continue
        manifest = read_object(run / name / "manifest.json")
        if manifest is not None:
            found.append(_stage(run, name, manifest))
    return found


def unfinished(run: Path) -> list[str]:
    """Stages that have begun but have no manifest."""
    return [
        name
        for name in STAGE_NAMES
        if name != "report"
        and (run / name).is_dir()
        and any((run / name).iterdir())
        and not (run / name / "manifest.json").is_file()
    ]


def _stage(run: Path, name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    seconds = manifest.get("wall_seconds")
    hardware = manifest.get("hardware")
    return {
        "name": name,
        "label": known(f"stage.{name}", pretty(name)),
        "finished": str(manifest.get("finished", "")),
        "wall": duration(float(seconds)) if isinstance(seconds, int | float) else "",
        "seconds": float(seconds) if isinstance(seconds, int | float) else 0.0,
        "seed": manifest.get("seed"),
        "version": manifest.get("espalier"),
        "git": manifest.get("git"),
        "counts": flat_counts(manifest.get("counts"), nested=name != "curate"),
        "inputs": [
            {
                "name": key,
                "path": shown_path(str(value.get("path", "")), run),
                "sha256": str(value.get("sha256", "")),
            }
            for key, value in (manifest.get("inputs") or {}).items()
            if isinstance(value, Mapping)
        ],
        "packages": dict(manifest.get("packages") or {}),
        "hardware": dict(hardware) if isinstance(hardware, Mapping) else {},
    }


def duration(seconds: float) -> str:
    """`4 min 05 s` in the language that speaks."""
    text = progress.duration(seconds)
    return re.sub(r"([\d.]+) (h|min|s)\b", lambda m: t(f"time.{m[2]}", value=m[1]), text)


def shown_path(text: str, run: Path) -> str:
    """A path as it may be shown to others: relative to the run or the cwd, no home folder."""
    path = Path(text)
    for root, prefix in ((run, ""), (Path.cwd(), ""), (Path.home(), "~/")):
        for base in (root, root.resolve()):
            if path.is_absolute() == base.is_absolute() and path.is_relative_to(base):
                return prefix + path.relative_to(base).as_posix()
    return text


def flat_counts(counts: Any, prefix: str = "", *, nested: bool = True) -> list[tuple[str, str]]:
    """`[(label, text)]` of a manifest's counts; `nested` names are joined with a middle dot.

    Notes and warnings are left out: they stand at the top of the page.
    """
    if not isinstance(counts, Mapping):
        return []
    rows: list[tuple[str, str]] = []
    for key, value in counts.items():
        label = prefix + known(f"tally.{key}", pretty(str(key)))
        if key in ("notes", "warnings") or value is None:
            continue
        if isinstance(value, Mapping):
            if nested:
                rows.extend(flat_counts(value, f"{label} · "))
        elif isinstance(value, bool) or not isinstance(value, int | float):
            rows.append((label, str(value)))
        else:
            rows.append((label, f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"))
    return rows


def without_secrets(text: str, home: Path | None = None) -> str:
    """YAML text with the values of secret-like keys hidden and the home folder written `~`."""
    text = _SECRET.sub(lambda match: match.group(1) + HIDDEN, text)
    text = _CREDENTIALS.sub(rf"\1{HIDDEN}@", text)
    folder = str(home or Path.home())
    return text if folder in ("", "/") else text.replace(folder + "/", "~/")


def read_recipe(run: Path) -> str | None:
    """The resolved recipe of the run as text that may be shown; None when there is none."""
    path = run / "recipe.resolved.yaml"
    if not path.is_file():
        return None
    return without_secrets(path.read_text(encoding="utf-8", errors="replace"))


def common(stages: list[dict[str, Any]], key: str) -> Any:
    """The value of `key` that all stages share, or None when they differ."""
    values = [stage[key] for stage in stages if stage[key]]
    return values[0] if values and all(value == values[0] for value in values) else None


def machine(stages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Facts that the stages share: version, source revision, hardware; differing ones joined."""
    rows: list[tuple[str, str]] = []
    for key, label in (("version", t("provenance.version")), ("git", t("provenance.git"))):
        found = list(dict.fromkeys(_revision(stage[key]) for stage in stages if stage[key]))
        if found:
            rows.append((label, ", ".join(found)))
    names = list(dict.fromkeys(name for stage in stages for name in stage["hardware"]))
    for name in names:
        values = [_plain(stage["hardware"].get(name)) for stage in stages]
        found = list(dict.fromkeys(value for value in values if value))
        rows.append((known(f"hardware.{name}", pretty(name)), ", ".join(found)))
    return rows


def _revision(text: Any) -> str:
    revision, plus, _ = str(text).partition("+changes")
    return revision[:12] + (f" + {t('provenance.changes')}" if plus else "")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)


def again(name: str, stages: list[dict[str, Any]]) -> str:
    """The shell lines that make this run again from its resolved recipe."""
    git = common(stages, "git")
    lines = [f"git checkout {str(git).removesuffix('+changes')}"] if git else []
    if git and str(git).endswith("+changes"):
        lines[0] += f"   # + {t('provenance.changes')}"
    return "\n".join([*lines, f"espalier run recipe.yaml --run {shlex.quote(name)}"])
