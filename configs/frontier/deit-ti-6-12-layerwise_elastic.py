# As deit-ti-6-12_elastic.py, with layer-wise learning rates.
_base_ = "./deit-ti-6-12_elastic.py"
optim_wrapper = _base_.layer_wise
