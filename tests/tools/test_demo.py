"""The demo's own part: a dataset, and steps that read it. The recipe has tests of its own."""

from pathlib import Path

from mmsn import datasets, recipe


def test_the_demo_stitches_two_anchors_on_the_dataset_it_makes(tool, tmp_path, monkeypatch):
    made, calls = [], []
    monkeypatch.setattr(datasets, "generate_shapes", made.append)
    monkeypatch.setattr(recipe, "stitch_from_anchors", lambda **kwargs: calls.append(kwargs))
    tool("demo").main(["--work-dir", str(tmp_path)])
    assert made == [Path(tmp_path) / "data"]
    (call,) = calls
    steps = [*call["anchors"], call["stitched"]]
    assert [len(step.config.model.backbone.anchors) for step in steps] == [1, 1, 2]
    for step in steps:
        for split in ("train", "val", "test"):
            loader = step.config.get(f"{split}_dataloader")
            assert loader is None or loader.dataset.data_root == str(made[0])
    assert steps[2].config.val_dataloader is not None
    assert steps[2].config.test_cfg.stitches == "all"
