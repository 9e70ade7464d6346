"""Options of the rules on single rows: filters, word lists, repair of damaged text, PII."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from espalier.curate.options import Options

Fields = Literal["prompt", "answer", "both"]
TermAction = Literal["drop", "flag"]
PiiAction = Literal["off", "flag", "mask", "drop"]


class RepeatConfig(Options):
    """Largest shares of an answer that may be repeats; null: no limit (Rae et al. 2021, "Scaling
    Language Models: Methods, Analysis & Insights from Training Gopher", table A1).

    Answers of fewer than 30 words are not looked at.
    """

    gopher: bool = Field(
        False, description="Give every limit that is not set below its published value."
    )
    lines: float | None = Field(
        None, gt=0, le=1, description="Lines that came before; published: 0.30."
    )
    line_characters: float | None = Field(
        None, gt=0, le=1, description="Characters in such lines; published: 0.20."
    )
    paragraphs: float | None = Field(
        None, gt=0, le=1, description="Paragraphs that came before; published: 0.30."
    )
    paragraph_characters: float | None = Field(
        None, gt=0, le=1, description="Characters in such paragraphs; published: 0.20."
    )
    top_ngrams: dict[int, float] = Field(
        default_factory=dict,
        description="Characters in the most frequent n-gram, by n; published: 2: 0.20, 3: 0.18, "
        "4: 0.16. In Chinese an n-gram is of characters.",
    )
    ngrams: dict[int, float] = Field(
        default_factory=dict,
        description="Characters in n-grams that came before, by n; published: 5: 0.15, 6: 0.14, "
        "7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10.",
    )
    run: int | None = Field(
        None, ge=2, description="The same character so often in a row, spaces and rules aside."
    )


class KeywordConfig(Options):
    """Words that must not occur (drop), or that rows are marked for (flag, in meta.keywords)."""

    terms: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Words by language or topic, such as `en: […]`, `zh: […]`. A term in a script "
        "with spaces is found as whole words, any case; a Chinese one anywhere.",
    )
    files: list[str] = Field(
        default_factory=list,
        description="Further terms: text files of one term a line (`#` begins a remark), or YAML "
        "of lists by language or topic.",
    )
    fields: Fields = Field("both", description="Where to look: user turns, answers, or both.")
    action: TermAction = Field("drop", description="Reject such rows, or mark them.")


class SafetyConfig(Options):
    """Terms of unsafe topics, by category: the built-in English and Chinese list and yours.

    A list finds words, not intentions: it takes harmless rows too (a history lesson, a refusal),
    so `flag` is the default.
    """

    builtin: bool = Field(True, description="Use the built-in list.")
    categories: list[str] | None = Field(
        None, description="Only these categories (default: all of the lists)."
    )
    files: list[str] = Field(
        default_factory=list, description="Further lists: YAML, `category: [terms]`."
    )
    fields: Fields = Field("both", description="Where to look: user turns, answers, or both.")
    action: TermAction = Field(
        "flag", description="Reject such rows, or mark them (meta.safety: the categories)."
    )


class FilterConfig(Options):
    """Rules on single rows; a limit of null switches a rule off. Empty answers always go."""

    min_prompt_words: int | None = Field(1, description="Script-aware words in the prompt.")
    max_prompt_words: int | None = Field(4000, description="Script-aware words in the prompt.")
    min_answer_words: int | None = Field(
        None, description="Script-aware words in the answer; marks such as ★★★ are none."
    )
    max_answer_words: int | None = Field(4000, description="Script-aware words in the answer.")
    min_turn_words: int | None = Field(
        None, ge=1, description="Script-aware words in every user and assistant turn."
    )
    max_turn_words: int | None = Field(
        None, ge=1, description="Script-aware words in every user and assistant turn."
    )
    min_dialogue_words: int | None = Field(
        None, ge=1, description="Script-aware words in all turns together."
    )
    max_dialogue_words: int | None = Field(
        None, ge=1, description="Script-aware words in all turns together."
    )
    max_turns: int | None = Field(None, ge=2, description="Turns of a dialogue, system aside.")
    languages: list[str] | None = Field(
        None,
        min_length=1,
        description="Reject rows that are clearly in another language (codes such as en, zh, "
        "de). Texts too short to tell need only the right script.",
    )
    language_fields: Fields = Field(
        "both", description="Which texts `languages` is asked of (`prompt`: translations stay)."
    )
    refusals: bool = Field(True, description="Reject answers that decline the task.")
    disclaimers: bool = Field(
        False, description="Reject answers that say anywhere that an AI wrote them (“as an AI”)."
    )
    copies: bool = Field(True, description="Reject answers that repeat the prompt or its input.")
    cut_off: bool = Field(True, description="Reject answers that end in a colon.")
    broken_text: bool = Field(True, description="Reject replacement and control characters.")
    mojibake: bool = Field(
        False, description="Reject text read in a wrong encoding (to repair it: curate.repair)."
    )
    repetition: float | None = Field(
        0.6,
        gt=0,
        le=1,
        description="Reject answers of 30 words or more in which a larger share of the 4-grams "
        "are repeats.",
    )
    repeats: RepeatConfig | None = Field(
        None, description="Further limits on repeats in the answer."
    )
    max_symbols: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of the answer's characters, spaces aside, that are neither letters, "
        "digits nor punctuation of sentences. Code needs about 0.3.",
    )
    max_links: float | None = Field(
        None, gt=0, le=1, description="Share of the answer's characters in URLs."
    )
    max_html: float | None = Field(
        None, gt=0, le=1, description="Share of the answer's characters in HTML tags."
    )
    keywords: KeywordConfig | None = Field(None, description="Lists of words; null: none.")
    safety: SafetyConfig | None = Field(None, description="Unsafe topics by word; null: off.")
    turn_order: bool = Field(True, description="Reject dialogues whose turns do not alternate.")
    functions: list[str] = Field(
        default_factory=list,
        description="Filters of your own, file.py:function or package.module:function: given a row "
        "(espalier.records.Example), a function gives the reason to reject it, or None.",
    )


class RepairConfig(Options):
    """Repair of damaged text in all turns; what was done is in meta.repaired."""

    encoding: bool = Field(
        True,
        description="Undo a wrong decoding: UTF-8 read as Latin-1, Windows-1252 and the like "
        "(ftfy), or as GBK.",
    )
    controls: bool = Field(
        True, description="Remove control characters and terminal escapes; join surrogate pairs."
    )
    invisible: bool = Field(
        True, description="Remove stray byte order marks, zero-width spaces and word joiners."
    )
    entities: bool = Field(
        True,
        description="Replace HTML entities left over (&amp;quot;), where the text is not HTML nor "
        "about it.",
    )


class PiiConfig(Options):
    """Personal data in all turns and in meta.input: `off`, `flag` (meta.pii counts them), `mask`
    (<EMAIL> and so on), or `drop` the row. What has a checksum is checked."""

    email: PiiAction = Field("mask", description="E-mail addresses.")
    phone: PiiAction = Field("mask", description="Phone numbers that can exist.")
    ip: PiiAction = Field("mask", description="Public IPv4 and IPv6 addresses.")
    card: PiiAction = Field("mask", description="Payment cards: issuer, length, Luhn.")
    resident_id: PiiAction = Field(
        "mask", description="Chinese resident identity numbers: province, birth date, checksum."
    )
    iban: PiiAction = Field("mask", description="Bank accounts: country's form, checksum.")
    ssn: PiiAction = Field("mask", description="US social security numbers, with hyphens.")
    api_key: PiiAction = Field(
        "mask", description="Keys of known providers, by prefix and entropy; private-key blocks."
    )
    phone_regions: dict[str, list[str]] = Field(
        default_factory=lambda: {"zh": ["CN"], "en": ["US", "GB"], "*": ["CN", "US"]},
        description="Countries whose national phone numbers are known, by the row's language "
        "(`*`: any other). Numbers with + and a country code are always known.",
    )
