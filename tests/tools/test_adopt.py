"""tools/adopt.py: what it writes and says."""

import pytest
from mmengine.config import Config

from mmsn.errors import UserError
from tests.adopt.names import DEIT3, UPERNET
from tests.conftest import ROOT


def test_the_command_writes_a_file_once(tool, tmp_path, monkeypatch, capsys, recwarn):
    monkeypatch.chdir(tmp_path)
    main = tool("adopt").main
    words = [UPERNET, "--anchors", *(anchor["model_name"] for anchor in DEIT3), "--stitch", "sl"]
    main(words)
    told = capsys.readouterr().out
    page = (ROOT / "docs/adopt.md").read_text()
    lines = page.partition("```text\n")[2].partition("\n```")[0].splitlines()
    assert told.splitlines()[:-1] == lines
    assert not [w for w in recwarn if "avg_non_ignore" in str(w.message)]
    name = UPERNET.replace(".py", "_stitched.py")
    assert f"wrote {name}" in told
    config = Config.fromfile(name)
    assert config.custom_hooks[1].stitches == "sl"
    with pytest.raises(UserError, match="exists: give another file as --out"):
        main(words)
