"""A hook of mkdocs: the pages that are made from the code, so that they cannot fall behind it.

The package is read, not imported, except for the command line, which imports no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"

# Title, words before the table, and ROOM.NAME of the dataclass or function whose settings it lists.
PRESET_SETTINGS = (
    ("phrases", "How a phrase is put into words.", "pipelines.PhraseSettings"),
    ("saliency, every method", "Where the phrase is in the scan.", "saliency.SaliencySettings"),
    (
        "saliency, method dense",
        "`sigmoid` and `softmax` make the map a probability. `minmax` stretches it over the scan and always marks "
        "something. `auto` takes the first of these that the encoder allows.",
        "saliency.DenseSettings",
    ),
    ("saliency, method gscorecam", "", "saliency.GScoreCAMSettings"),
    ("saliency, method gradcam", "Those of `gradcam++` and `layercam` too.", "saliency.GradCAMSettings"),
    ("saliency, method reciprocam", "", "saliency.ReciproCAMSettings"),
    ("saliency, method m2ib", "", "saliency.M2IBSettings"),
    ("regions", "How the map becomes a region.", ""),
    ("regions, method crf", "", "regions.CRFSettings"),
    ("regions, method threshold", "", "regions.FixedThreshold"),
    ("regions, method percentile", "", "regions.PercentileThreshold"),
    ("regions, method kmeans", "", "regions.KMeans"),
    ("prompts", "What the segmenter is asked.", "regions.PromptSettings"),
    ("prompts, pipeline salip", "What the segmenter is asked about a proposal.", "regions.HullSettings"),
    ("proposals", "Which regions SaLIP finds in a scan.", "proposals.ProposalSettings"),
    ("crops", "How a region is shown to the encoder.", "proposals.CropSettings"),
    ("retrieval", "Which regions a phrase takes.", "proposals.RetrievalSettings"),
    ("retrieval, preset sam-unprompted", "", "pipelines.PickSettings"),
    ("mask", "How prompts become the final mask.", "pipelines.MaskSettings"),
    ("instances", "Which candidates SAM 3's answer is made of.", "pipelines.InstanceSettings"),
    ("presence", "Whether the phrase is there at all.", "saliency.PresenceSettings"),
    ("volume", "How a volume is cut, and what its slices say of each other.", "pipelines.VolumeSettings"),
    ("propagation", "When `volume.propagate` ends, and where it begins.", "pipelines.PropagationSettings"),
)
OTHER_SETTINGS = (
    ("Fine-tuning", "`lexiseg finetune --set KEY=VALUE`.", "training.FinetuneSettings"),
    ("Students", "`lexiseg train`; its options have the same names.", "training.TrainSettings"),
    ("Evaluation", "`lexiseg evaluate`; its options have the same names.", "evaluation.EvaluationSettings"),
)
# What a section reads besides its dataclass.
MORE: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "saliency, every method": (
        ("method", "str", "gscorecam", "dense, gscorecam, gradcam, gradcam++, layercam, reciprocam or m2ib."),
    ),
    "regions": (("method", "str", "crf", "crf, otsu, kmeans, threshold or percentile; otsu has no settings."),),
}
Row = tuple[str, str, str, str]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    package = griffe.load("lexiseg", search_paths=[SOURCE], docstring_parser="google", allow_inspection=False)
    pages = {
        "reference/cli.md": _cli_page(),
        "reference/settings.md": _settings_page(package),
        "reference/python.md": _python_page(),
        "model-card.md": _copied(SOURCE / "lexiseg/bundled/README.md", "../../../docs/"),
        "changelog.md": _copied(ROOT / "CHANGELOG.md", "docs/"),
    }
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def _copied(path: Path, to_docs: str) -> str:
    """A page that lives outside docs/; its links into docs/ are shortened to where it is shown."""
    return path.read_text(encoding="utf-8").replace(f"]({to_docs}", "](")


def _python_page() -> str:
    tree = ast.parse((SOURCE / "lexiseg/__init__.py").read_text(encoding="utf-8"))
    found = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    names = sorted(name for name in found[0] if not name.startswith("__"))
    chapters = {
        "Functions": [f"lexiseg.{name}" for name in names if name[0].islower()],
        "Values": [f"lexiseg.{name}" for name in names if name[0].isupper()],
        "What a model must offer": [
            "lexiseg.models.protocols.Encoder",
            "lexiseg.models.protocols.Segmenter",
            "lexiseg.models.protocols.Tracker",
            "lexiseg.models.protocols.TextSegmenter",
        ],
        "Errors": ["lexiseg.errors"],
    }
    parts = ["# Python", "What `import lexiseg` offers, what a model of your own must offer, and what can be raised."]
    for title, objects in chapters.items():
        parts += [f"## {title}", *(f"::: {each}" for each in objects)]
    return "\n\n".join(parts) + "\n"


def _settings_page(package: Any) -> str:
    parts = [
        "# Settings",
        "Every setting with its type, its default and its meaning. The defaults are those of the code. "
        "A preset changes some of them, as the [presets](#presets) below show.",
        "Change one on the command line with `--set SECTION.KEY=VALUE`, in a preset's file with "
        '`section: {key: value}`, and in Python with `lexiseg.load("demo", section={"key": value})`.',
    ]
    parts += _tables(package, PRESET_SETTINGS)
    parts += ["## Presets", "`lexiseg presets show NAME` prints the same, with every field."]
    for path in sorted((SOURCE / "lexiseg/pipelines/presets").glob("*.yaml")):
        parts += [f"### {path.stem}", f"```yaml\n{path.read_text(encoding='utf-8').strip()}\n```"]
    return "\n\n".join([*parts, *_tables(package, OTHER_SETTINGS)]) + "\n"


def _tables(package: Any, sections: tuple[tuple[str, str, str], ...]) -> Iterator[str]:
    for title, words, where in sections:
        rows = list(_rows(_find(package, where))) if where else []
        names = {row[0] for row in rows}
        rows = [*(row for row in MORE.get(title, ()) if row[0] not in names), *rows]
        lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
        for name, kind, default, meaning in rows:
            if not meaning:
                raise PluginError(f"{where}: the setting {name} has no description in the docstring")
            lines.append(f"| `{name}` | `{kind}` | `{default}` | {meaning} |")
        yield f"## {title}"
        if words:
            yield words
        yield "\n".join(lines)


def _find(package: Any, where: str) -> Any:
    """The one class or function of a room by its name, in whichever of the room's files it lies."""
    room, name = where.split(".")
    found = [
        found[name]
        for module in _modules(package[room])
        if name in (found := module.members) and not found[name].is_alias
    ]
    if len(found) != 1:
        raise PluginError(f"{where}: found {len(found)} in lexiseg.{room}; expected one")
    return found[0]


def _modules(module: Any) -> Iterator[Any]:
    yield module
    for each in module.modules.values():
        if not each.is_alias:
            yield from _modules(each)


def _rows(of: Any) -> Iterator[Row]:
    """The settings of a dataclass in their order, or the keyword-only arguments of a function."""
    meanings: dict[str, str] = {}
    summary = ""
    for section in of.docstring.parse(warnings=False) if of.docstring else ():
        if section.kind.value == "text":
            summary = summary or " ".join(section.value.split("\n\n")[0].split())
        elif section.kind.value in ("attributes", "parameters"):
            for each in section.value:
                # Fields that share a description are named together, with commas.
                meanings |= dict.fromkeys(each.name.split(", "), " ".join(each.description.split()))
    if of.is_function:
        for parameter in of.parameters:
            if parameter.kind is griffe.ParameterKind.keyword_only:
                kind = _kind(of, parameter.annotation)
                yield parameter.name, kind, str(parameter.default), meanings.get(parameter.name, summary)
        return
    for name, each in of.members.items():
        # griffe drops ClassVar from the annotation; what is left of it is that no instance has the attribute.
        if each.is_attribute and each.annotation is not None and "instance-attribute" in each.labels:
            default, meaning = _setting(str(each.value))
            yield name, _kind(of, each.annotation), default, meaning or meanings.get(name, "")


def _setting(value: str) -> tuple[str, str]:
    """Default and meaning of a field; the meaning is "" where the field is not made by `setting`."""
    call = ast.parse(value, mode="eval").body
    if isinstance(call, ast.Call) and ast.unparse(call.func) == "setting":
        return ast.unparse(call.args[0]), " ".join(str(ast.literal_eval(call.args[1])).split())
    return value, ""


def _kind(of: Any, annotation: Any) -> str:
    """An annotation; a module's name for several texts is written out."""
    text = str(annotation)
    named = of.module.members.get(text)
    if named is not None and named.is_alias:
        named = named.final_target
    return str(named.value) if named is not None and named.is_attribute else text


def _cli_page() -> str:
    from lexiseg.cli.main import app

    parts = [
        "# Command line",
        "Every command with its arguments and options. `lexiseg COMMAND --help` prints the same, and "
        "`lexiseg --version` the version.",
        "Standard output carries tables and lists. Standard error carries progress, warnings and the last line. "
        "[Exit codes](exit-codes.md) are on a page of their own.",
    ]
    return "\n\n".join([*parts, *_command(typer.main.get_command(app), ("lexiseg",))]) + "\n"


def _command(command: Any, words: tuple[str, ...]) -> Iterator[str]:
    nested = getattr(command, "commands", {})
    if not nested or getattr(command, "invoke_without_command", False):
        context = command.make_context(words[-1], [], resilient_parsing=True)
        yield f"## {' '.join(words)}"
        yield f"    {' '.join([*words, *command.collect_usage_pieces(context)])}"
        yield "\n".join(line.strip() for line in (command.help or "").splitlines())
        found = [each.get_help_record(context) for each in command.params]
        rows = [(name, meaning) for name, meaning in filter(None, found) if name != "--help"]
        if rows:
            lines = ["| option | meaning |", "|---|---|"]
            for name, meaning in rows:
                # An argument's record ends in the kind of its value, which its name says already.
                lines.append(
                    f"| `{name.strip().removesuffix(' <list[Path]>').removesuffix(' <Path>')}` | "
                    f"{' '.join(meaning.split())} |"
                )
            yield "\n".join(lines)
    for name, each in nested.items():
        yield from _command(each, (*words, name))
