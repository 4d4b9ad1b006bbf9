"""A method's README on its page: its facts are checked, its text can do no harm."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poseboard.protocols.records import ResultError
from poseboard.report.readme import read_readme, render

METHODS = Path(__file__).parents[2] / "methods"


def test_markdown_is_rendered_with_its_tables() -> None:
    html = render("# Title\n\nText.\n\n## Part\n\n| option | default | |\n|---|---|---|\n| `a` | 1 | words |\n")
    assert "Title" not in html
    assert "<h3>Part</h3>" in html
    assert '<th scope="col">option</th>' in html
    assert "<td></td>" in html  # a head without words
    assert "<td><code>a</code></td>" in html
    assert '<td class="words" data-label="default">1</td>' in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<b onclick=x()>bold</b>",
        "[a](javascript:alert(1))",
        "[a](data:text/html,x)",
        "[a](../../etc/passwd)",
        "[a](http://example.org)",
        "[a](//example.org)",
        "![words](https://example.org/pixel.png)",
        "![words](../x.png)",
        "[![words](x.png)](y.md)",
        "<https://example.org/a>\n\n[x]: javascript:alert(1)\n[x]",
        "```html\n<script>\n```",
    ],
)
def test_nothing_of_it_runs_is_loaded_or_leads_to_a_file(text: str) -> None:
    html = render(text)
    assert not re.search(r"<(script|img|b|iframe|style|svg|object|link|meta)\b", html)
    for link in re.findall(r'href="([^"]*)"', html):
        assert link.startswith("https://")
    assert not re.search(r"<[^>]*\b(on\w+|src|style|id)=", html)


@given(st.text(st.sampled_from("ab<>/\"'=()[]!:`*_#|-& \n"), max_size=60))
def test_any_text_gives_only_known_tags(text: str) -> None:
    tags = {tag.lower() for tag in re.findall(r"</?([a-zA-Z0-9]+)", render(text))}
    known = "p a em strong code pre ul ol li blockquote hr br table thead tbody tr th td h1 h2 h3 h4 h5 h6"
    assert tags <= set(known.split())


def test_the_words_of_a_link_and_of_a_picture_stay() -> None:
    assert render("See [the table](../T1.yaml).") == "<p>See the table.</p>\n"
    assert render("![two people](people.png)") == "<p>two people</p>\n"
    assert 'href="https://example.org/x"' in render("[a *page*](https://example.org/x)")


def test_every_method_of_the_suite_says_what_it_is() -> None:
    folders = [path.parent for path in METHODS.glob("*/method.py")]
    assert folders
    for folder in folders:
        readme = read_readme(folder / "README.md")
        assert readme is not None, folder
        assert readme.about is not None, folder
        assert readme.about.paper, folder
        assert readme.about.year, folder
        assert readme.about.link, folder
        assert len(re.findall(r"[.](?=\s|$)", readme.about.summary)) == 2, folder
        assert "summary:" not in readme.html


def test_a_readme_without_facts_and_none_at_all(tmp_path: Path) -> None:
    assert read_readme(tmp_path / "README.md") is None
    (tmp_path / "README.md").write_text("# Name\n\nWords.\n\n---\n")
    readme = read_readme(tmp_path / "README.md")
    assert readme is not None
    assert readme.about is None
    assert readme.html.startswith("<p>Words.</p>")


@pytest.mark.parametrize(
    ("front", "says"),
    [
        ("paper: x", "summary"),
        ("summary: x\nyear: soon", "year"),
        ("summary: x\nlink: javascript:alert(1)", "link"),
        ("summary: [", "is not YAML"),
        ("summary: x\nsurprise: 1", "surprise"),
    ],
)
def test_wrong_facts_are_one_line_naming_file_and_field(tmp_path: Path, front: str, says: str) -> None:
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n\nWords.\n")
    with pytest.raises(ResultError, match=r"README\.md") as caught:
        read_readme(tmp_path / "README.md")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
