# default_runtime.py for mmdet, which the extra `mmdet` installs.
_base_ = "./default_runtime.py"
custom_imports = dict(imports=["mmsn", "mmdet.models", "mmdet.datasets"])
default_scope = "mmdet"
env_cfg = dict(cudnn_benchmark=False)  # as in mmdet
visualizer = dict(type="DetLocalVisualizer")
tta_model = None
