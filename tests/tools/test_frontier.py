"""The command that compares methods."""

import pytest

from mmsn.errors import UserError
from tests.evaluation.reports import report, result


def test_it_writes_a_page_and_its_pictures(tool, tmp_path, capsys):
    for seed in (0, 1):
        made = report(result(0, 10**9, 1.0), result(1, 2 * 10**9, 3.0 + seed), images=4)
        made.save(tmp_path / f"reports/a_ours_{seed}.json")
    page, images = tmp_path / "page.md", tmp_path / "images"
    words = [str(tmp_path / "reports"), "--page", str(page), "--images", str(images)]
    main = tool("frontier").main
    main(words)
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {images / 'frontier_a.png'}",
        f"wrote {page}",
    ]
    assert "| ours | 2 | 1.000 ± 0.000 | 3.500 ± 1.000 | 1.000 ± 0.000 |" in page.read_text()
    with pytest.raises(UserError, match="a_ours_0 has no finite rmse"):
        main([*words, "--metric", "rmse"])
