# SN-Netv2 on ImageNet-1k with DeiT-3; a leaf chooses two of these anchors.
_base_ = [
    "../models/classifier.py",
    "../datasets/imagenet_224x224.py",
    "../schedules/lamb_50e.py",
    "../classification_runtime.py",
]
# Rates of dropped paths are the same in all blocks.
small = dict(
    model_name="deit3_small_patch16_224.fb_in22k_ft_in1k", pretrained=True, drop_path_rate=0.05
)
base = dict(
    model_name="deit3_base_patch16_224.fb_in22k_ft_in1k", pretrained=True, drop_path_rate=0.15
)
large = dict(
    model_name="deit3_large_patch16_224.fb_in22k_ft_in1k", pretrained=True, drop_path_rate=0.4
)
