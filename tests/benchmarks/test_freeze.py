"""`poseboard freeze NAME`: a copy of the recorded results and their page that anybody can check."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def recorded(workspace: Any) -> Any:
    """A workspace whose scores are in git."""
    workspace.must("compare", "human36m")
    git(workspace.folder, "init", "-q")
    git(workspace.folder, "add", *(f"results/smoke/{kind}" for kind in ("scores", "comparisons", "data", "training")))
    (workspace.folder / ".git/info/exclude").write_text("results\ndata\n")
    git(workspace.folder, "commit", "-q", "-m", "Record scores")
    return workspace


def test_a_board_is_frozen_with_equal_bytes_and_checked(recorded: Any) -> None:
    folder = recorded.folder / "frozen/v1"
    recorded.must("freeze", "v1")
    recorded.must("freeze", "v2")
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert {Path("page/index.html"), Path("results/smoke/scores/dlt/human36m.json"), Path("SHA256SUMS")} <= files
    assert not any(path.suffix == ".parquet" for path in files), "only files in git are copied"
    sums = [(recorded.folder / f"frozen/{name}/SHA256SUMS").read_text().split("\n", 1) for name in ("v1", "v2")]
    assert sums[0][0].startswith("# Poseboard v1: profile smoke, 20")
    assert sums[0][1] == sums[1][1]
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert recorded.must("freeze", "v1", "--check").out == ""
    recorded.must("freeze", "v1")

    with (folder / "page/index.html").open("a") as page:
        page.write("better")
    (folder / "results/smoke/scores/dlt/human36m.json").unlink()
    (folder / "more").touch()
    done = recorded.run("freeze", "v1", "--check")
    assert (done.code, done.out.split()) == (1, ["more", "page/index.html", "results/smoke/scores/dlt/human36m.json"])
    done = recorded.run("freeze", "v1")
    assert done.code == 2
    assert "frozen/v1: exists with another more; choose another name, or remove the folder" in done.error
    assert [path.name for path in (recorded.folder / "frozen").iterdir() if path.name.startswith(".")] == []


def test_mistakes_are_one_line(recorded: Any) -> None:
    for arguments, says in (("../v1",), "is not a name"), (("v1", "--check"), "run `poseboard freeze v1` first"):
        done = recorded.run("freeze", *arguments)
        assert (done.code, says in done.error) == (2, True)
    (recorded.folder / "results/smoke/scores/dlt/human36m.json").write_text("{}")
    done = recorded.run("freeze", "v1")
    assert done.code == 2
    assert "results/smoke/scores/dlt/human36m.json: is not committed; commit it, or remove it" in done.error
    assert not (recorded.folder / "frozen").exists()


def test_a_site_is_published_whole_or_not_at_all(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_page(plan: Any, results: Path, out: Path, url: str, *, is_local: bool) -> None:
        assert not is_local
        out.mkdir()
        policy = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'">"""
        (out / "index.html").write_text(policy + "".join(f'<a href="{link}"></a>' for link in links))

    monkeypatch.setattr("poseboard.benchmarks.exchange.publish.write_page", write_page)
    before, links = set(workspace.folder.iterdir()), ["gone.html", "#gone", "https://example.org"]
    error = workspace.run("publish").error
    assert "site/index.html: link to 'gone.html', which does not exist; and 1 more problem; nothing is written" in error
    assert set(workspace.folder.iterdir()) == before
    del links[:2]
    (workspace.folder / "site").mkdir()
    assert workspace.must("publish").out == "site/index.html: profile smoke, 1 file, 0.0 MB, checked\n"
    assert "site: exists and is not an empty folder; remove it" in workspace.run("publish").error
    assert (
        "--url x.example: is not an address of a folder" in workspace.run("publish", "new", "--url", "x.example").error
    )


def test_the_workflow_publishes_the_folder_that_it_writes() -> None:
    jobs = yaml.safe_load((ROOT / "docs/workflows/publish.yml").read_text())["jobs"]
    steps = jobs["build"]["steps"]
    address = "https://$OWNER.github.io/$NAME/"
    assert f'.venv/bin/poseboard publish site --url "{address}"' in [step.get("run") for step in steps]
    assert [step["with"] for step in steps if "upload-pages-artifact" in step.get("uses", "")] == [{"path": "site"}]
    assert (jobs["build"]["permissions"], jobs["deploy"]["needs"]) == ({"contents": "read"}, "build")
