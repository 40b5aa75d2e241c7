"""The report: acts with text, figures and tables, written as one HTML file that needs nothing else."""

import base64
import dataclasses
import html
import inspect
import io
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture and what it shows: `image` is SVG text, `caption` and `code` (what computed and drew it) plain text."""

    image: str
    caption: str
    code: str

    @staticmethod
    def of(canvas: "Canvas", caption: str, *functions: Callable[..., Any]) -> "Figure":
        """What matplotlib drew, with the source of the `functions` that made it; rasters stay pixels."""
        from matplotlib import rc_context

        buffer = io.StringIO()
        with rc_context({"svg.fonttype": "path", "svg.hashsalt": "brainsim"}):
            canvas.savefig(buffer, format="svg", dpi=200, transparent=True, metadata={"Date": None})
        return Figure(buffer.getvalue(), caption, "\n\n".join(inspect.getsource(f).rstrip() for f in functions))

    def html(self) -> str:
        data = base64.b64encode(self.image.encode()).decode()
        alt = html.escape(self.caption, quote=True)
        caption = html.escape(self.caption)
        image = f'<img alt="{alt}" src="data:image/svg+xml;base64,{data}">'
        code = f"<details><summary>the code</summary><pre>{html.escape(self.code)}</pre></details>"
        return f'<figure><div class="wide">{image}</div><figcaption>{caption}</figcaption>{code}</figure>'


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under `columns`; units belong into the column names. The first column names the row."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    caption: str = ""
    prose: bool = False
    """Words rather than numbers: aligned to the left."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"Table: the row {row!r} has {len(row)} cells; expected {len(self.columns)}: {self.columns}."
                )

    def html(self) -> str:
        head = "".join(f"<th>{html.escape(c)}</th>" for c in self.columns)
        body = "".join("<tr>" + "".join(_cell(k, x) for k, x in enumerate(row)) + "</tr>" for row in self.rows)
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        kind = ' class="prose"' if self.prose else ""
        return (
            f'<div class="wide"><table{kind}>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )


def _cell(k: int, x: Any) -> str:
    return f"<{'th' if k == 0 else 'td'}>{html.escape(str(x))}</{'th' if k == 0 else 'td'}>"


@dataclasses.dataclass(frozen=True)
class Act:
    """One part of the demo.

    `figures_of_merit` are the few numbers that matter, label -> text, shown large; `text` are paragraphs, plain text in
    which `*word*` is emphasised and `` `word` `` is code; `numbers` is what was computed, for who calls the
    demo from Python.
    """

    title: str
    text: tuple[str, ...]
    figures_of_merit: dict[str, str]
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]
    numbers: dict[str, Any]
    seconds: float

    def html(self, anchor: str) -> str:
        merits = "".join(
            f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in self.figures_of_merit.items()
        )
        first, *rest = (f"<p>{_inline(p)}</p>" for p in self.text)
        parts = [f'<section id="{anchor}"><h2>{html.escape(self.title)}</h2>', first, f"<dl>{merits}</dl>"]
        parts += [*rest, *(f.html() for f in self.figures), *(t.html() for t in self.tables)]
        return "\n".join([*parts, f'<p class="aside">This act took {self.seconds:.1f} s.</p></section>'])


def _inline(text: str) -> str:
    text = html.escape(text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def write(
    path: Path, acts: list[Act], environment: Table, *, title: str, summary: str, made: str, advice: str = ""
) -> None:
    """Write the report of `acts` to `path`, first beside it and then in its place, so that no half report is left.

    `advice`: HTML of a section about what to do next.
    """
    page = Template(part("report.html"))
    anchors = [f"act-{k + 1}" for k in range(len(acts))]
    contents = "".join(f'<li><a href="#{a}">{html.escape(act.title)}</a></li>' for a, act in zip(anchors, acts))
    body = "\n".join(act.html(a) for a, act in zip(anchors, acts))
    text = page.substitute(
        title=html.escape(title),
        summary=_inline(summary),
        made=html.escape(made),
        contents=contents,
        body=body,
        next=advice,
        next_link='<li><a href="#next">What to do next</a></li>' if advice else "",
        environment=environment.html(),
    )
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def part(name: str) -> str:
    """A file of HTML beside this one."""
    return (resources.files("brainsim._demo") / name).read_text(encoding="utf-8")
