"""Words for every command, and what its parser reads from them: the table of test_arguments.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

RUN = dict(work_dir=None, cfg_options=None, launcher="none", local_rank=0)
MODEL = dict(config="c.py", checkpoint="k.pth")
SCORES = dict(report=None, latency_table=None)
SHRINK: dict[str, Any] = dict(
    model="deit_tiny_patch16_224",
    out="c.safetensors",
    checkpoint=None,
    prefix="",
    timm_options=[],
    parent_size=None,
    depth=6,
    blocks=None,
    width=None,
    heads=None,
    start="parent",
    distill_steps=0,
    images=[],
    image_size=None,
    held_out=128,
    batch_size=16,
    lr=1e-3,
    weight_decay=0.0,
    linear_maps=False,
    seed=0,
    device=None,
    bf16=False,
    workers=0,
    calibration=128,
    save_every=200,
)

PARSED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "adopt": [
        (
            "c.py --anchors a b=c.pth",
            dict(config="c.py", anchors=["a", "b=c.pth"], out=None, rank=16, stitch=["all"]),
        ),
        (
            "c.py --anchors a b --out d.py --rank 4 --stitch sl 3",
            dict(config="c.py", anchors=["a", "b"], out="d.py", rank=4, stitch=["sl", 3]),
        ),
    ],
    "learngene_pool": [
        (
            "m --out d --instances 6x192 6x768 --images i --steps 9",
            dict(
                model="m",
                out="d",
                instances=[(6, 192), (6, 768)],
                images=["i"],
                steps=9,
                checkpoint=None,
                num_classes=1000,
                positions=3,
                alpha=0.1,
                image_size=None,
                held_out=128,
                batch_size=256,
                lr=5e-5,
                weight_decay=0.05,
                seed=0,
                device=None,
                bf16=False,
                workers=0,
                save_every=200,
            ),
        ),
    ],
    "train": [
        ("c.py", dict(config="c.py", **RUN, amp=False, resume=False)),
        (
            "c.py --work-dir w --amp --resume --launcher pytorch --cfg-options a=1 b.c=2 "
            "--local-rank 3",
            dict(
                config="c.py",
                work_dir="w",
                amp=True,
                resume=True,
                launcher="pytorch",
                cfg_options=["a=1", "b.c=2"],
                local_rank=3,
            ),
        ),
        (
            "c.py --local_rank 1",
            dict(config="c.py", **RUN | dict(local_rank=1), amp=False, resume=False),
        ),
    ],
    "test": [
        (
            "c.py k.pth",
            dict(
                **MODEL,
                **RUN,
                stitch=None,
                budget=None,
                out=None,
                show=False,
                show_dir=None,
                wait_time=2,
                tta=False,
            ),
        ),
        (
            "c.py k.pth --out o --show --show-dir d --wait-time 1.5 --tta --launcher slurm "
            "--stitch anchors 25 --budget 30% 100G",
            dict(
                **MODEL,
                **RUN | dict(launcher="slurm"),
                stitch=["anchors", 25],
                budget=["30%", "100G"],
                out="o",
                show=True,
                show_dir="d",
                wait_time=1.5,
                tta=True,
            ),
        ),
    ],
    "benchmark": [
        (
            "c.py k.pth",
            dict(**MODEL, **RUN, stitch=["all"], best_of=None, latency="none", chunk=50, amp=False),
        ),
        (
            "c.py k.pth --stitch sl 3 --latency frontier --chunk 8 --amp",
            dict(
                **MODEL,
                **RUN,
                stitch=["sl", 3],
                best_of=None,
                latency="frontier",
                chunk=8,
                amp=True,
            ),
        ),
        (
            "c.py k.pth --best-of r.json 2",
            dict(
                **MODEL,
                **RUN,
                stitch=["all"],
                best_of=["r.json", "2"],
                latency="none",
                chunk=50,
                amp=False,
            ),
        ),
    ],
    "compare": [
        (
            "c.py k.pth m.onnx n.pt2 --image-size 64 48 --images 5 --repeats 3",
            dict(**MODEL, files=["m.onnx", "n.pt2"], image_size=[64, 48], images=5, repeats=3),
        ),
        (
            "c.py k.pth m.onnx",
            dict(**MODEL, files=["m.onnx"], image_size=None, images=None, repeats=20),
        ),
    ],
    "convert_snnetv2": [
        ("a.pth b.pth", dict(source="a.pth", target="b.pth", config=None, quiet=False)),
        (
            "a.pth b.pth --config c.py --quiet",
            dict(source="a.pth", target="b.pth", config="c.py", quiet=True),
        ),
    ],
    "costs": [
        (
            "c.py",
            dict(
                config="c.py",
                budget=None,
                all=False,
                image_size=None,
                batch_size=1,
                latency_table=None,
                stitch=["all"],
                repeats=20,
                device=None,
                force=False,
            ),
        ),
        (
            "c.py --budget 25ms --image-size 64 48 --batch-size 2 --latency-table t.json "
            "--stitch anchors 4 --repeats 3 --device cpu --force",
            dict(
                config="c.py",
                budget="25ms",
                all=False,
                image_size=[64, 48],
                batch_size=2,
                latency_table="t.json",
                stitch=["anchors", 4],
                repeats=3,
                device="cpu",
                force=True,
            ),
        ),
    ],
    "demo": [
        ("", dict(work_dir="work_dirs/demo", equal_compute=False)),
        ("--work-dir w --equal-compute", dict(work_dir="w", equal_compute=True)),
    ],
    "depth_pictures": [
        (
            "c.py k.pth",
            dict(
                **MODEL,
                **RUN,
                stitch=None,
                budget=None,
                indices=None,
                images=4,
                out=None,
                device=None,
            ),
        ),
        (
            "c.py k.pth --stitch anchors 25 --budget 90G 30% --indices 3 4 --out o --device cuda:0",
            dict(
                **MODEL,
                **RUN,
                stitch=["anchors", 25],
                budget=["90G", "30%"],
                indices=[3, 4],
                images=4,
                out="o",
                device="cuda:0",
            ),
        ),
    ],
    "export": [
        (
            "c.py k.pth --out m.onnx",
            dict(
                **MODEL,
                stitch=None,
                out="m.onnx",
                image_size=None,
                dynamic_size=False,
                precision="float32",
                calibration=None,
            ),
        ),
        (
            "c.py k.pth --out m.pt2 --stitch middle --image-size 64 48 --precision bfloat16",
            dict(
                **MODEL,
                stitch="middle",
                out="m.pt2",
                image_size=[64, 48],
                dynamic_size=False,
                precision="bfloat16",
                calibration=None,
            ),
        ),
    ],
    "extract": [
        (
            "c.py k.pth --stitch anchors 9 --out d --plain",
            dict(**MODEL, **SCORES, stitch=["anchors", 9], budget=None, out="d", plain=True),
        ),
        (
            "c.py k.pth --budget 30% 25ms --out d --report r.json --latency-table t.json",
            dict(
                **MODEL,
                stitch=None,
                budget=["30%", "25ms"],
                out="d",
                plain=False,
                report="r.json",
                latency_table="t.json",
            ),
        ),
    ],
    "frontier": [
        ("d", dict(folder="d", page="frontier.md", images="images", metric=None)),
        (
            "d --page p.md --images i --metric rmse",
            dict(folder="d", page="p.md", images="i", metric="rmse"),
        ),
    ],
    "gradio_demo": [
        ("c.py k.pth", dict(**MODEL, report=None, device=None, host="127.0.0.1", port=7860)),
        (
            "c.py k.pth --report r.json --device cpu --host 0.0.0.0 --port 80",
            dict(**MODEL, report="r.json", device="cpu", host="0.0.0.0", port=80),
        ),
    ],
    "infer": [
        (
            "c.py k.pth i.png",
            dict(
                **MODEL,
                **SCORES,
                input="i.png",
                out="painted",
                budget="100%",
                stitch=None,
                device=None,
            ),
        ),
        (
            "c.py k.pth i.png --stitch middle --out o --device cpu --latency-table t.json",
            dict(
                **MODEL,
                input="i.png",
                out="o",
                budget="100%",
                stitch="middle",
                report=None,
                latency_table="t.json",
                device="cpu",
            ),
        ),
    ],
    "report": [
        (
            "a.json",
            dict(
                reports=["a.json"],
                out="report",
                metric=None,
                axis=None,
                alone={},
                interactive=False,
            ),
        ),
        (
            "a.json b.json --out o --metric rmse --axis latency --alone S 1.5 20 --alone L 3 30",
            dict(
                reports=["a.json", "b.json"],
                out="o",
                metric="rmse",
                axis="latency",
                alone=dict(S=(1.5, 20.0), L=(3.0, 30.0)),
                interactive=False,
            ),
        ),
    ],
    "stitch": [
        (
            "--anchors a.py b.py --stitched s.py --work-dir w --probes p.py",
            dict(
                anchors=["a.py", "b.py"],
                stitched="s.py",
                work_dir="w",
                equal_compute=False,
                probes=["p.py"],
            ),
        ),
    ],
    "train_test": [
        ("c.py", dict(config="c.py", **RUN, seed=None)),
        (
            "c.py --seed 3 --work-dir w",
            dict(config="c.py", **RUN | dict(work_dir="w"), seed=3),
        ),
    ],
    "dataset_converters/shapes": [
        (
            "",
            dict(out="data/shapes", num_train=1000, num_val=200, size=96, seed=0, difficulty=None),
        ),
    ],
    "dataset_converters/nyuv2_seg": [
        (
            "m.mat s.mat",
            dict(
                mat="m.mat",
                splits="s.mat",
                out="data/nyuv2",
                class_mapping=None,
                image_suffix=".png",
            ),
        ),
    ],
    "dataset_converters/nyuv2_depth": [
        (
            "labeled m.mat s.mat --image-suffix .jpg",
            dict(
                command="labeled",
                mat="m.mat",
                splits="s.mat",
                out="data/nyuv2",
                image_suffix=".jpg",
            ),
        ),
        ("raw nyu.zip --out d", dict(command="raw", source="nyu.zip", out="d")),
    ],
    "benchmark_speed": [
        (
            "training c.py",
            dict(
                row="training",
                config="c.py",
                image_size=None,
                label_size=None,
                batch_size=1,
                rounds=5,
                stitch=None,
                quick=False,
                tokens=5000,
                device=None,
            ),
        ),
        (
            "least-squares --tokens 600 --rounds 2 --device cpu",
            dict(
                row="least-squares",
                config=None,
                image_size=None,
                label_size=None,
                batch_size=1,
                rounds=2,
                stitch=None,
                quick=False,
                tokens=600,
                device="cpu",
            ),
        ),
        (
            "evaluation c.py --image-size 64 48 --label-size 97 131 --batch-size 2 "
            "--stitch anchors 4 --quick",
            dict(
                row="evaluation",
                config="c.py",
                image_size=[64, 48],
                label_size=[97, 131],
                batch_size=2,
                rounds=1,
                stitch=["anchors", 4],
                quick=True,
                tokens=5000,
                device=None,
            ),
        ),
    ],
    "scale": [("", dict(devices=8)), ("--devices 4", dict(devices=4))],
    "shrink_anchor": [
        ("deit_tiny_patch16_224 --depth 6 --out c.safetensors", SHRINK),
        (
            "deit_tiny_patch16_224 --depth 6 --out c.safetensors --checkpoint p.pth --prefix vit. "
            "--timm-options patch_size=14 --parent-size 64 64 --blocks 0,2 --width 16 --heads 2 "
            "--start random --distill-steps 3 --images i --image-size 32 48 --held-out 4 "
            "--batch-size 2 --lr 0.1 --weight-decay 0.2 --linear-maps --seed 1 --device cpu --bf16 "
            "--workers 1 --calibration 5 --save-every 6",
            SHRINK
            | dict(
                checkpoint="p.pth",
                prefix="vit.",
                timm_options=["patch_size=14"],
                parent_size=[64, 64],
                blocks="0,2",
                width=16,
                heads=2,
                start="random",
                distill_steps=3,
                images=["i"],
                image_size=[32, 48],
                held_out=4,
                batch_size=2,
                lr=0.1,
                weight_decay=0.2,
                linear_maps=True,
                seed=1,
                device="cpu",
                bf16=True,
                workers=1,
                calibration=5,
                save_every=6,
            ),
        ),
    ],
    "campaigns/full_disk": [
        ("training", dict(subject="training", fills=50, how="disk", seed=0)),
        (
            "recipe --fills 3 --how limit --seed 1",
            dict(subject="recipe", fills=3, how="limit", seed=1),
        ),
    ],
    "campaigns/fuzz_files": [
        ("", dict(inputs=10_000, seed=0, only="", keep=None)),
        (
            "--inputs 5 --seed 1 --only list --keep d",
            dict(inputs=5, seed=1, only="list", keep=Path("d")),
        ),
    ],
    "campaigns/kill_runs": [
        (
            "training",
            dict(
                subject="training",
                kills=100,
                seed=0,
                slow=0.2,
                hook="mmsn.AtomicCheckpointHook",
                folder=None,
            ),
        ),
        (
            "demo --kills 3 --seed 1 --slow 0.1 --hook CheckpointHook --folder d",
            dict(subject="demo", kills=3, seed=1, slow=0.1, hook="CheckpointHook", folder="d"),
        ),
    ],
    "campaigns/mutate": [
        ("", dict(mutants=100, seed=0, only="", limit=5)),
        (
            "--mutants 5 --seed 1 --only space --limit 9",
            dict(mutants=5, seed=1, only="space", limit=9),
        ),
    ],
}
