"""The documentation is complete and its code runs."""

import re
from pathlib import Path

import jax
import pytest

from .test_house import public

ROOT = Path(__file__).parents[1]
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if p.parent.name != "notebooks")


@pytest.mark.parametrize(
    "package",
    [f"brainsim{room}" for room in ("", ".lower", ".nir", ".observe", ".operators", ".plot", ".sweep", ".train")],
)
def test_every_public_name_is_on_one_page(package):
    listed = [name for page in PAGES for name in re.findall(rf"^::: {package}\.(\w+)$", page.read_text(), re.MULTILINE)]
    assert sorted(listed) == sorted({*listed, *public(package)})


def test_every_page_is_in_the_navigation():
    named = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    notebooks = [f"notebooks/{p.name}" for p in sorted((ROOT / "notebooks").glob("*.md"))]
    assert sorted(named) == sorted([*(str(p.relative_to(ROOT / "docs")) for p in PAGES), *notebooks])


@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in p.read_text()], ids=lambda p: p.stem)
def test_code_of_pages_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as a user has it
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
            exec(compile(block, page.name, "exec"), space)
