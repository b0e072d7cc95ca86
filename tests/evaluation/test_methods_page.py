"""The part of a page that compares methods."""

from pathlib import Path

import pytest

from mmsn.errors import UserError
from mmsn.evaluation.methods_page import BEGIN, END, write_methods
from tests.evaluation.reports import report, stitches


def test_the_page_keeps_what_is_around_its_part(folder, tmp_path):
    page = tmp_path / "docs" / "frontier.md"
    written = write_methods(folder, page, tmp_path / "docs" / "images")
    picture = tmp_path / "docs" / "images" / "frontier_a_b.png"
    assert written == [picture, page]
    assert picture.read_bytes().startswith(b"\x89PNG")
    first = page.read_text()
    assert first.startswith(BEGIN)
    assert "(images/frontier_a_b.png)" in first
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\nafter\n")
    write_methods(folder, page, tmp_path / "docs" / "images")
    assert page.read_text() == f"# Title\n\n{first.strip()}\nafter\n"


@pytest.mark.parametrize("text", ["# Title\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{BEGIN}\n{END}"])
def test_a_page_without_a_place_is_left_alone(folder, tmp_path, text):
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(UserError, match=r"page\.md has no place for the tables: put the lines"):
        write_methods(folder, tmp_path / "page.md", tmp_path / "images")
    assert (tmp_path / "page.md").read_text() == text
    assert not (tmp_path / "images").exists()


def test_a_page_that_is_a_folder_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="is a folder: name the Markdown file to write"):
        write_methods(folder, folder, tmp_path / "images")
    assert not (tmp_path / "images").exists()


def test_parts_have_a_picture_of_their_own(folder, tmp_path):
    report(*stitches([1.0, 2.0, 3.0]), images=4).save(folder / "a_b_no-teacher_0.json")
    names = [path.name for path in write_methods(folder, tmp_path / "p.md", tmp_path / "images")]
    assert names == ["frontier_a_b.png", "frontier_a_b_parts.png", "p.md"]


def test_the_comparison_in_the_documentation_is_what_its_reports_give(tmp_path):
    docs = Path(__file__).parents[2] / "docs"
    page = tmp_path / "docs" / "frontier.md"
    page.parent.mkdir()
    page.write_text(f"{BEGIN}\n{END}\n")
    write_methods(docs / "results" / "frontier", page, tmp_path / "docs" / "images")
    assert page.read_text().strip() in (docs / "frontier.md").read_text()
