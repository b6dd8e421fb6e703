"""Long texts as they are written: sections of sentences, each with the places in the source that it came from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from readthrough.agents.reading.concluding import Span
from readthrough.agents.runs.services import Services
from readthrough.documents.sentences import sentence_spans
from readthrough.errors import UsageError
from readthrough.types import Evidence, place

WORKFLOW = "write-long"

Form = Literal["report", "glossary", "index"]

_ORDERS: dict[Form, str] = {
    "report": "Write a report on the text.",
    "glossary": "Write a glossary of the text.",
    "index": "Write an index of the text.",
}
_ABOUT = "Write a report about this: "
_FORM = re.compile(r"^\W*(?:please\W+)?(?:write|make|give|create|compile)\b.{0,40}\b(glossary|index)\b", re.IGNORECASE)
_REFERENCE = re.compile(r"\[(\d+)\]")
_NO_SLUG = re.compile(r"[\W_]+")
_SLUG_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence, or an entry's place, with the places in the source that it came from."""

    text: str
    spans: Sequence[Span] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a report, or an entry of a glossary or an index.

    Attributes:
        title: its heading, or the term.
        paragraphs: its sentences by paragraph; the places of an index's entry are one.
        chunks: the ids of the chunks that it was written from.
    """

    title: str
    paragraphs: Sequence[Sequence[Said]] = ()
    chunks: Sequence[int] = ()

    @property
    def sentences(self) -> list[Said]:
        """All its sentences."""
        return [said for paragraph in self.paragraphs for said in paragraph]

    @property
    def text(self) -> str:
        """What it says, without references."""
        return "\n\n".join(" ".join(said.text for said in paragraph) for paragraph in self.paragraphs)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Section:
        """The section that `asdict` made `values` of."""
        said = [[Said(**each) for each in paragraph] for paragraph in values["paragraphs"]]
        return cls(**{**values, "paragraphs": said})


@dataclass
class References:
    """The places that a text refers to, numbered from 1 in the order in which they are first referred to."""

    numbers: dict[Span, int] = field(default_factory=dict)

    def shown(self, said: Said) -> str:
        """A sentence with the numbers of its places behind it."""
        spans = [(number, start, end) for number, start, end in said.spans]  # lists, where they come from JSON
        found = dict.fromkeys(self.numbers.setdefault(span, len(self.numbers) + 1) for span in spans)
        return said.text + "".join(f"[{number}]" for number in found)

    def evidence(self, services: Services, text: str) -> tuple[Evidence, ...]:
        """The quotes that `text` refers to, by their numbers; each stands for the sentences that refer to it."""
        supports: dict[int, list[int]] = {}
        for sentence, (start, end) in enumerate(sentence_spans(text)):
            for number in dict.fromkeys(_REFERENCE.findall(text[start:end])):
                supports.setdefault(int(number), []).append(sentence)
        shelf = services.shelf
        return tuple(
            Evidence.cut(shelf.document(shelf.documents[document].id), start, end, supports.get(number, []))
            for (document, start, end), number in self.numbers.items()
        )


def writing_question(form: Form, about: str | None) -> str:
    """The question that asks for a text of a form, a report about something.

    Raises:
        UsageError: `about` is empty, or the form is about everything.
    """
    if about is None:
        return _ORDERS[form]
    if form != "report":
        raise UsageError(f"a {form} is about the whole text", hint="leave out what it is to be about")
    if not about.strip():
        raise UsageError("what the report is to be about is empty", hint="say it, or leave it out")
    return _ABOUT + about.strip()


def form_of(question: str) -> Form:
    """The form that a question asks for; a report where it names none."""
    named = _FORM.search(question)
    return "report" if named is None else "glossary" if named[1].lower() == "glossary" else "index"


def subject(question: str) -> str:
    """What a report is to be about; empty where it is about the whole text."""
    return "" if question in _ORDERS.values() else question.removeprefix(_ABOUT)


def without_references(text: str) -> str:
    """A text of a model's without numbers in brackets, which would be taken for references."""
    return _REFERENCE.sub("", text)


def keep(services: Services, sections: Iterable[Section], before: str | None) -> str:
    """Put sections into the run log behind those of the link `before`: nothing grows, however many there are."""
    return services.link(before, sections=[asdict(section) for section in sections])


def kept(services: Services, last: str | None) -> list[Section]:
    """All sections up to the link `last`, in order."""
    return [Section.of(section) for link in services.links(last) for section in link["sections"]]


def composed(form: Form, sections: Sequence[Section], references: References) -> list[str]:
    """Each section as Markdown, with references; entries in the order of their terms."""
    if form == "report":
        return [_section(section, references) for section in sections]
    entry = _definition if form == "glossary" else _places
    return [entry(section, references) for section in sorted(sections, key=lambda each: each.title.casefold())]


def joined(form: Form, blocks: Sequence[str]) -> str:
    """What `composed` made as one text."""
    return ("\n" if form == "index" else "\n\n").join(blocks)


def files(
    services: Services, form: Form, question: str, sections: Sequence[Section], names: Mapping[str, str]
) -> dict[str, str]:
    """The files of what is written so far, by name: the whole, and of a report each section too; with sources.

    `names` are those of the sections' files, by title.
    """
    references = References()
    blocks = composed(form, sections, references)
    evidence = references.evidence(services, joined(form, blocks))
    title = form.capitalize() + (f": {subject(question)}" if subject(question) else "")
    found = {whole_name(form): _with_sources(f"# {title}\n\n{joined(form, blocks)}", evidence)}
    if form == "report":
        pairs = zip(sections, blocks, strict=True)
        found |= {names[section.title]: _with_sources(block, evidence) for section, block in pairs}
    return found


def whole_name(form: Form) -> str:
    """The name of the file that holds everything."""
    return f"{form}.md"


def section_names(titles: Sequence[str]) -> list[str]:
    """The names of the sections' files: `01-the-keepers.md`; letters and digits alone, so that none leaves a folder."""
    slugs = [_NO_SLUG.sub("-", title.casefold()).strip("-")[:_SLUG_CHARACTERS].strip("-") for title in titles]
    return [f"{number:02d}-{slug or 'section'}.md" for number, slug in enumerate(slugs, 1)]


def _section(section: Section, references: References) -> str:
    paragraphs = [" ".join(map(references.shown, paragraph)) for paragraph in section.paragraphs]
    return "\n\n".join([f"## {section.title}", *paragraphs])


def _definition(section: Section, references: References) -> str:
    return f"**{section.title}**: {' '.join(map(references.shown, section.sentences))}"


def _places(section: Section, references: References) -> str:
    return f"- {section.title}: {', '.join(map(references.shown, section.sentences))}"


def _with_sources(text: str, evidence: Sequence[Evidence]) -> str:
    """A text with the quotes that it refers to below it."""
    used = {int(number) for number in _REFERENCE.findall(text)}
    lines = [
        f"[{number}] {place(item)}: “{' '.join(item.quote.split())}”"
        for number, item in enumerate(evidence, 1)
        if number in used
    ]
    return "\n\n".join([text, *(["### Sources"] if lines else []), *lines]) + "\n"
