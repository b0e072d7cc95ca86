"""Everything of mmsn that reads a file, each with a small valid file and what is done with it.

Left out on purpose: configs, which are programs (only their syntax is read here), and what mmseg
reads by itself.
"""

from __future__ import annotations

import io
import logging
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
PIXELS = (3, 8, 6)  # of an NYUv2 image in these files, instead of 3 x 640 x 480
WIDTH = 24


@dataclass
class Reader:
    """How one kind of file is read.

    Attributes:
        path: a valid file.
        read: what is called after each damage; its answers are compared by ``repr``.
        has_checksum: whether other content must be noticed.
        is_native: read by code outside Python, which can end the process: in a process of its own.
        mutate: makes the damaged bytes, where damage must not stop at a checksum.
    """

    path: Path
    read: Callable[[], Any]
    has_checksum: bool = False
    is_native: bool = False
    mutate: Callable[[random.Random], bytes] | None = None


def readers(folder: Path) -> dict[str, Reader]:
    """All of them by name, their files in this folder."""
    from mmsn.datasets import nyuv2_convert, nyuv2_depth_convert

    for module in (nyuv2_convert, nyuv2_depth_convert):
        module.IMAGE_SHAPE = PIXELS  # type: ignore[attr-defined]
    found: dict[str, Reader] = {}
    for kinds in (_checkpoints, _runs, _reports, _matlab, _raw_lists, _lists, _images, _extracted):
        own = folder / kinds.__name__
        own.mkdir()
        found.update(kinds(own))
    return found


def _weights() -> dict[str, torch.Tensor]:
    return {f"layer{i}.weight": torch.randn(5, 7) for i in range(4)}


def _checkpoints(folder: Path) -> Iterator[tuple[str, Reader]]:
    from mmengine.runner import CheckpointLoader

    from mmsn.checkpoint import convert_snnetv2
    from mmsn.state_dict import digest_of, read_checkpoint, read_state_dict, write_checkpoint

    weights, meta = _weights(), dict(classes=["a", "b"], palette=[[0, 0, 0], [1, 2, 3]])

    def content(path: Path) -> tuple[str, str]:
        tensors, found = read_checkpoint(path)
        return digest_of(tensors), repr(found)

    def loaded(path: Path) -> Any:
        checkpoint = CheckpointLoader.load_checkpoint(str(path))
        state = checkpoint.get("state_dict", checkpoint)
        return digest_of({k: v for k, v in state.items() if isinstance(v, torch.Tensor)})

    pth, safe, old = (folder / n for n in ("weights.pth", "weights.safetensors", "old.pth"))
    write_checkpoint(pth, weights, meta)
    write_checkpoint(safe, weights, meta)
    torch.save({"state_dict": weights}, old, _use_new_zipfile_serialization=False)
    by_mmengine = folder / "mmengine.pth"
    torch.save({"state_dict": weights, "meta": {"epoch": 0, "iter": 5}}, by_mmengine)
    yield "read_checkpoint .pth", Reader(pth, lambda: content(pth), True)
    yield "read_checkpoint .safetensors", Reader(safe, lambda: content(safe))
    yield "read_checkpoint before torch 1.6", Reader(old, lambda: content(old))
    yield "mmengine .pth", Reader(by_mmengine, lambda: loaded(by_mmengine), True)

    published = folder / "published.pth"
    with np.load(ROOT / "tests/data/golden_12_24.npz") as file:
        names = [name for name in file.files if name.startswith("state.")]
        state = {n.removeprefix("state."): torch.from_numpy(file[n]) for n in names}
    torch.save(state, published)

    def convert() -> str:
        converted, reports = convert_snnetv2(read_state_dict(published))
        return digest_of(converted) + repr(len(reports))

    rename = Reader(published, convert, mutate=lambda draw: _other_state(state, draw))
    yield "SN-Netv2 checkpoint", rename


def _other_state(state: dict[str, Any], draw: random.Random) -> bytes:
    """A whole file with a few tensors gone, renamed, of another shape, or no tensors."""
    changed: dict[Any, Any] = dict(state)
    for _ in range(draw.randint(1, 3)):
        key = draw.choice(list(changed))
        value = changed.pop(key)
        others = (None, 5, "text", [value], {"a": value}, torch.tensor(3), torch.zeros(0))
        match draw.randrange(6):
            case 0:
                changed[key + draw.choice(("x", ".1", "\n"))] = value
            case 1:
                changed[key] = draw.choice(others)
            case 2:
                changed[key] = value[:1] if isinstance(value, torch.Tensor) and value.dim() else 0
            case 3:
                changed[draw.choice((5, None, ("a",)))] = value
            case 4 if changed:
                changed[draw.choice(list(changed))] = value
    buffer = io.BytesIO()
    torch.save(changed, buffer)
    return buffer.getvalue()


def _runs(folder: Path) -> Iterator[tuple[str, Reader]]:
    from mmsn.deploy.infer import PaintRecord
    from mmsn.engine.chunks import ChunkStore
    from mmsn.engine.resume import latest_checkpoint

    for step in (2, 4):
        torch.save({"state_dict": _weights()}, folder / f"iter_{step}.pth")
    pointer = folder / "last_checkpoint"
    pointer.write_text(str(folder / "iter_4.pth"))
    newest = Reader(folder / "iter_4.pth", lambda: latest_checkpoint(folder))
    yield "newest checkpoint", newest
    yield "last_checkpoint", Reader(pointer, lambda: latest_checkpoint(folder))

    store = ChunkStore(folder / "partial", {"config": "x"})
    store.save(0, {0: [[(torch.ones(3), torch.zeros(3))]], 1: [[(torch.ones(3), torch.ones(3))]]})
    # A damaged chunk is evaluated again: the reader gives nothing, and never something else.
    yield "chunk", Reader(store._path(0), lambda: store.load((0, 1)) or _refuse(), True)

    source = folder / "image.png"
    source.write_bytes(b"an image")
    PaintRecord(folder, {}).add(source, source)

    def painted() -> bool:
        record = PaintRecord(folder, {})
        return record.is_current(source, source)

    yield "record of painted files", Reader(PaintRecord(folder, {}).path, painted)


def _reports(folder: Path) -> Iterator[tuple[str, Reader]]:
    from mmsn.errors import UserError
    from mmsn.evaluation import ParetoReport
    from mmsn.evaluation.latency import LatencyTable, TimedStitch
    from mmsn.evaluation.report import Latency, LatencySetting

    report, table = folder / "report.json", folder / "table.json"
    for path in sorted((ROOT / "docs" / "results").rglob("*.json")):
        try:
            ParetoReport.load(path)
        except UserError:
            continue
        report.write_bytes(path.read_bytes())
        break
    LatencyTable(
        title="tiny",
        torch_version="2.13.0",
        image_size=(32, 32),
        setting=LatencySetting(device="cpu", dtype="float32", batch_size=1, threads=1),
        stitches=[
            TimedStitch(id=i, macs=1000 + i, latency=Latency(p50_ms=1.5, p90_ms=2.5, repeats=20))
            for i in range(5)
        ],
    ).save(table)
    yield "report", Reader(report, lambda: _used(ParetoReport.load(report)))
    yield "latency table", Reader(table, lambda: _used(LatencyTable.load(table)))


def _used(read: Any) -> str:
    """What is done with a report next: it is printed, and written again."""
    if hasattr(read, "table"):
        read.table(read.default_metric())
    return read.model_dump_json()


def _refuse() -> None:
    from mmsn.errors import UserError

    raise UserError("damaged")


def _matlab(folder: Path) -> Iterator[tuple[str, Reader]]:
    """The official files of NYUv2, with three images of a few pixels."""
    import h5py
    from scipy.io import savemat

    from mmsn.datasets.nyuv2_convert import convert_nyuv2, read_class_mapping, read_splits
    from mmsn.datasets.nyuv2_depth_convert import convert_nyuv2_depths

    for name, packed in (("splits", False), ("packed", True)):
        lists = {"trainNdxs": np.array([[3], [1]], np.uint16), "testNdxs": np.array([[2]])}
        savemat(folder / f"{name}.mat", lists, do_compression=packed)
    mapping = folder / "mapping.mat"
    savemat(mapping, {"mapClass": (np.arange(894) % 40 + 1)[None]}, do_compression=True)
    splits, packed = folder / "splits.mat", folder / "packed.mat"
    yield "splits.mat", Reader(splits, lambda: read_splits(splits))
    yield "compressed splits.mat", Reader(packed, lambda: read_splits(packed), True)
    yield "class mapping .mat", Reader(mapping, lambda: read_class_mapping(mapping).sum(), True)

    mat, rng = folder / "nyu.mat", np.random.default_rng(0)
    with h5py.File(mat, "w") as file:
        file["images"] = rng.integers(0, 256, (3, *PIXELS)).astype(np.uint8)
        file["labels"] = rng.integers(0, 895, (3, *PIXELS[1:])).astype(np.uint16)
        for name in ("depths", "rawDepths"):
            depths = rng.uniform(0, 10, (3, *PIXELS[1:])).astype(np.float32)
            file.create_dataset(name, data=depths, compression="gzip")

    def convert() -> Any:
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        return convert_nyuv2(mat, splits, out), convert_nyuv2_depths(mat, out)

    yield "labelled .mat", Reader(mat, convert, is_native=True)


def _raw_lists(folder: Path) -> Iterator[tuple[str, Reader]]:
    from mmsn.datasets.files import encode
    from mmsn.datasets.nyuv2_depth_convert import convert_nyuv2_raw

    source, rng = folder / "raw", np.random.default_rng(0)
    (source / "s").mkdir(parents=True)
    size = PIXELS[:0:-1]
    for i in range(3):
        pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        depths = rng.integers(0, 9000, size).astype(np.uint16)
        (source / f"s/rgb_{i}.jpg").write_bytes(encode(pixels, ".jpg"))
        (source / f"s/sync_depth_{i}.png").write_bytes(encode(depths, ".png"))
    for name, numbers in (("train", (0, 1)), ("test", (2,))):
        rows = (f"/s/rgb_{i}.jpg /s/sync_depth_{i}.png 518.8\n" for i in numbers)
        (source / f"nyu_{name}.txt").write_text("".join(rows))
    shutil.make_archive(str(folder / "raw"), "zip", source)

    def convert(given: Path) -> Any:
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        done = convert_nyuv2_raw(given, out)
        assert not any("\n" in line for line in done.broken), done.broken
        return done

    yield "raw .zip", Reader(folder / "raw.zip", lambda: convert(folder / "raw.zip"))
    for name in ("nyu_train.txt", "s/rgb_0.jpg", "s/sync_depth_0.png"):
        yield f"raw {name}", Reader(source / name, lambda: convert(source))


def _lists(folder: Path) -> Iterator[tuple[str, Reader]]:
    """Lists of images, and the record of how a folder was filled."""
    from mmseg.registry import DATASETS

    from mmsn.datasets import generate_shapes
    from mmsn.shrink.images import find_images

    generate_shapes(folder / "shapes", 1, 0, 32)
    recipe = folder / "shapes" / "recipe.json"
    yield "recipe.json", Reader(recipe, lambda: generate_shapes(folder / "shapes", 1, 0, 32))

    for name in ("images", "depths"):
        (folder / name).mkdir()
        for i in (1, 2):
            (folder / name / f"{i:04d}.png").write_bytes(b"an image")
    names = folder / "train.txt"
    names.write_text("0001\n0002\n")

    def listed(kind: str) -> Any:
        dataset = dict(type=f"mmsn.{kind}", data_root=str(folder), ann_file="train.txt")
        prefix = dict(img_path="images", seg_map_path="labels", depth_map_path="depths")
        return len(DATASETS.build(dict(dataset, data_prefix=prefix, pipeline=[])))

    for kind in ("NYUv2SegDataset", "NYUv2DepthDataset"):
        yield f"list of {kind}", Reader(names, lambda kind=kind: listed(kind))
    paths = folder / "paths.txt"
    paths.write_text("images/0001.png\nimages/0002.png\n")
    yield "list of unlabeled images", Reader(paths, lambda: find_images([paths]))


def _images(folder: Path) -> Iterator[tuple[str, Reader]]:
    from mmsn.datasets.files import encode
    from mmsn.deploy.predictor import read_image
    from mmsn.shrink.images import UnlabeledImages

    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    for suffix in (".jpg", ".png"):
        path = folder / f"image{suffix}"
        path.write_bytes(encode(pixels, suffix))
        images = UnlabeledImages([path], (16, 16), (0, 0, 0), (1, 1, 1))
        yield f"unlabeled {suffix}", Reader(path, lambda images=images: images[0].shape)
        yield f"image {suffix}", Reader(path, lambda path=path: read_image(path).shape)


def _extracted(folder: Path) -> Iterator[tuple[str, Reader]]:
    """The folder of an extraction, and exported files: ONNX where its packages are installed."""
    from importlib.util import find_spec

    from mmsn.deploy import InferenceSpec, export, extract, open_exported, open_stitch, save
    from mmsn.models import read_config
    from mmsn.models.opening import build
    from mmsn.state_dict import digest_of

    config = _segmentor()
    config_file, weights_file = folder / "config.py", folder / "model.safetensors"
    model = build(config)
    save(folder, *extract(config, model.state_dict(), [0]))

    def opened() -> str:
        return digest_of(open_stitch(config_file, weights_file).state_dict())

    # These weights have a checksum, but in metadata that damage can rename.
    yield "extracted weights", Reader(weights_file, opened)
    yield "extracted config", Reader(config_file, lambda: len(read_config(config_file)) > 0)

    def sized(path: Path) -> Any:
        exported = open_exported(path)
        return InferenceSpec.from_metadata(exported.metadata, str(path)).test_size(32, 32)

    has_onnx = find_spec("onnx") is not None and find_spec("onnxruntime") is not None
    for suffix in (".pt2", ".onnx") if has_onnx else (".pt2",):
        path = folder / f"model{suffix}"
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        export(open_stitch(config_file, weights_file), path, (32, 32))
        logging.disable(level)
        yield f"exported {suffix}", Reader(path, lambda path=path: sized(path), is_native=True)


def _segmentor() -> Config:
    anchors = [
        dict(model_name="deit3_small_patch16_224", embed_dim=dim, depth=depth, num_heads=2)
        for dim, depth in ((16, 2), (WIDTH, 4))
    ]
    backbone = dict(
        type="mmsn.StitchedViT", anchors=anchors, img_size=32, out_indices=(1, 3), rank=2
    )
    head = dict(
        type="FCNHead",
        in_channels=WIDTH,
        in_index=1,
        channels=8,
        num_convs=1,
        concat_input=False,
        num_classes=5,
        norm_cfg=dict(type="BN"),
    )
    pipeline = [dict(type="LoadImageFromFile"), dict(type="PackSegInputs")]
    return Config(
        dict(
            custom_imports=dict(imports=["mmsn"]),
            default_scope="mmseg",
            model=dict(
                type="EncoderDecoder",
                data_preprocessor=dict(type="SegDataPreProcessor", mean=[120] * 3, std=[60] * 3),
                backbone=backbone,
                decode_head=head,
                test_cfg=dict(mode="whole"),
            ),
            test_pipeline=pipeline,
            test_dataloader=dict(dataset=dict(type="BaseSegDataset", pipeline=pipeline)),
        )
    )
