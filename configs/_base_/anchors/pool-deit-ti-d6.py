# Two instances of DeiT-Ti in a pool that tools/learngene_pool.py made; docs/neighbors.md has the
# command. Depths (6, 6).
pool = "{{$MMSN_POOL:work_dirs/pool}}"
instances = [
    dict(
        model_name="deit_tiny_patch16_224",
        depth=6,
        embed_dim=128,
        num_heads=2,
        checkpoint=f"{pool}/instance_0_6x128.safetensors",
    ),
    dict(
        model_name="deit_tiny_patch16_224",
        depth=6,
        embed_dim=192,
        num_heads=3,
        checkpoint=f"{pool}/instance_1_6x192.safetensors",
    ),
]
