# DPT narrow enough to train on a CPU.
_base_ = "./depth-dpt.py"
model = dict(decode_head=dict(channels=32, post_process_channels=[24, 48, 96, 96]))
