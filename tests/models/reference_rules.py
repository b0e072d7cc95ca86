"""The published SN-Netv2 backbone, written from its rules as plain functions on its state dict.

Slow and literal on purpose: explicit softmax attention, a position index built by loops, blocks
and stitching layers looked up by their official names. The golden file, which was made by running
the published code, validates it; then it can judge settings that the golden file does not have.
"""

import math

import torch
import torch.nn.functional as F


def random_state(depths, dims, heads, grid, rank, class_slot):
    """A random official state dict: trained tables, LayerScale, an update that is not zero."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape, std=0.2):
        return torch.randn(*shape, generator=generator) * std

    patches = grid[0] * grid[1]
    state = {}
    for a, (depth, d, h) in enumerate(zip(depths, dims, heads, strict=True)):
        anchor = f"anchors.{a}."
        state[anchor + "cls_token"] = normal(1, 1, d)
        state[anchor + "pos_embed"] = normal(1, patches + class_slot, d)
        state[anchor + "patch_embed.projection.weight"] = normal(d, 3, 16, 16, std=0.05)
        state[anchor + "patch_embed.projection.bias"] = normal(d)
        for n in range(depth):
            layer = f"{anchor}layers.{n}."
            state |= {
                layer + "gamma_1": normal(d),
                layer + "gamma_2": normal(d),
                layer + "ln1.weight": 1 + normal(d),
                layer + "ln1.bias": normal(d),
                layer + "ln2.weight": 1 + normal(d),
                layer + "ln2.bias": normal(d),
                layer + "attn.relative_position_bias_table": normal(
                    (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3, h, std=1
                ),
                layer + "attn.qkv.weight": normal(3 * d, d),
                layer + "attn.qkv.bias": normal(3 * d),
                layer + "attn.proj.weight": normal(d, d),
                layer + "attn.proj.bias": normal(d),
                layer + "ffn.layers.0.0.weight": normal(4 * d, d),
                layer + "ffn.layers.0.0.bias": normal(4 * d),
                layer + "ffn.layers.1.weight": normal(d, 4 * d),
                layer + "ffn.layers.1.bias": normal(d),
            }
    for a, count in ((0, depths[0]), (1, depths[0] - 1)):
        source, target = dims[a], dims[1 - a]
        for n in range(count):
            layer = f"stitch_layers.{a}.{n}.transform."
            state |= {
                layer + "weight": normal(target, source),
                layer + "bias": normal(target),
                layer + "lora_A": normal(rank, source),
                layer + "lora_B": normal(target, rank),
            }
    return state


def position_index(grid):
    """Row of the table for each pair of tokens, by loops."""
    height, width = grid
    tokens = [None, *((y, x) for y in range(height) for x in range(width))]
    size = (2 * height - 1) * (2 * width - 1) + 3
    index = torch.empty(len(tokens), len(tokens), dtype=torch.long)
    for i, query in enumerate(tokens):
        for j, key in enumerate(tokens):
            if query is None and key is None:
                index[i, j] = size - 1
            elif query is None:
                index[i, j] = size - 3
            elif key is None:
                index[i, j] = size - 2
            else:
                dy, dx = query[0] - key[0], query[1] - key[1]
                index[i, j] = (dy + height - 1) * (2 * width - 1) + dx + width - 1
    return index


def block(state, anchor, n, heads, index, x):
    """One pre-norm block with LayerScale and relative position bias."""

    def get(name):
        return state[f"anchors.{anchor}.layers.{n}.{name}"]

    batch, tokens, dim = x.shape
    y = F.layer_norm(x, (dim,), get("ln1.weight"), get("ln1.bias"), 1e-6)
    qkv = F.linear(y, get("attn.qkv.weight"), get("attn.qkv.bias"))
    q, k, v = qkv.reshape(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / math.sqrt(dim / heads)
    scores = scores + get("attn.relative_position_bias_table")[index].permute(2, 0, 1)
    y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, dim)
    x = x + get("gamma_1") * F.linear(y, get("attn.proj.weight"), get("attn.proj.bias"))
    y = F.layer_norm(x, (dim,), get("ln2.weight"), get("ln2.bias"), 1e-6)
    y = F.gelu(F.linear(y, get("ffn.layers.0.0.weight"), get("ffn.layers.0.0.bias")))
    return x + get("gamma_2") * F.linear(y, get("ffn.layers.1.weight"), get("ffn.layers.1.bias"))


def stitching_layer(state, source, n, rank, x):
    """W x + b + B A x / rank."""

    def get(name):
        return state[f"stitch_layers.{source}.{n}.transform.{name}"]

    update = F.linear(F.linear(x, get("lora_A")), get("lora_B")) / rank
    return F.linear(x, get("weight"), get("bias")) + update


def embed(state, anchor, image, class_slot):
    """Patches, class token, position embedding with or without a slot for the class token."""
    prefix = f"anchors.{anchor}."
    weight = state[prefix + "patch_embed.projection.weight"]
    x = F.conv2d(image, weight, state[prefix + "patch_embed.projection.bias"], stride=16)
    x, cls = x.flatten(2).transpose(1, 2), state[prefix + "cls_token"]
    if class_slot:
        return torch.cat([cls.expand(len(x), -1, -1), x], dim=1) + state[prefix + "pos_embed"]
    x = x + state[prefix + "pos_embed"]
    return torch.cat([cls.expand(len(x), -1, -1), x], dim=1)


def run_stitch(state, config, large_out, depths, heads, grid, rank, image, class_slot=False):
    """Levels of one sub-network; ``config`` has ``comb``, ``route`` and ``layers`` as published."""
    index = position_index(grid)
    ratio = depths[1] // depths[0]
    out = [[i // ratio for i in large_out], list(large_out)]
    comb = config["comb"]
    route = config["route"] or [[0, depths[comb[0]]]]
    x = embed(state, comb[0], image, class_slot)
    levels = {}
    for part, (anchor, (begin, end)) in enumerate(zip(comb, route, strict=True)):
        for n in range(begin, min(end + 1, depths[anchor])):
            x = block(state, anchor, n, heads[anchor], index, x)
            for level in [level for level, at in enumerate(out[anchor]) if at == n]:
                tokens = stitching_layer(state, 0, n, rank, x) if anchor == 0 else x
                patches = tokens[:, 1:].transpose(1, 2)
                levels[level] = patches.reshape(len(image), -1, *grid)
        if part + 1 < len(comb):
            x = stitching_layer(state, anchor, config["layers"][part], rank, x)
    return [levels[level] for level in range(len(large_out))]
