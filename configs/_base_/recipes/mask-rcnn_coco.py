# Mask R-CNN on COCO; a leaf adds the anchors.
_base_ = [
    "../models/mask-rcnn.py",
    "../datasets/coco-instance_1024x1024.py",
    "../schedules/adamw-detection_184k.py",
    "../detection_runtime.py",
]
