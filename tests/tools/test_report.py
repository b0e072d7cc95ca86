"""The command that draws reports."""

import pytest

from mmsn.errors import UserError
from mmsn.evaluation.report import LatencySetting
from tests.evaluation.reports import FAST, report, result


def test_the_report_tool_draws_latency_where_it_was_measured(tool, tmp_path, capsys):
    setting = LatencySetting(device="cpu", dtype="float32", batch_size=1, threads=1)
    plain = report(result(0, 50, 1.5))
    timed = [result(i, 10 * i + 10, i).model_copy(update=dict(latency=FAST)) for i in range(2)]
    whole = report(*timed, latency_setting=setting, image_size=(32, 32))
    whole.save(tmp_path / "timed.json")
    plain.save(tmp_path / "plain.json")
    main = tool("report").main
    both = [str(tmp_path / "timed.json"), str(tmp_path / "plain.json")]
    assert main([*both, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "pareto-latency.png").is_file()
    assert "differ in image_size, so their numbers do not compare" in capsys.readouterr().out
    with pytest.raises(UserError, match="no latency was measured"):
        main([both[1], "--axis", "latency", "--out", str(tmp_path / "out2")])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file: give a folder"):
        main([both[1], "--out", str(tmp_path / "file")])
