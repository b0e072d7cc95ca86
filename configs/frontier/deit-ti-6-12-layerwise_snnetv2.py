# As deit-ti-6-12_snnetv2.py, with layer-wise learning rates.
_base_ = "./deit-ti-6-12_snnetv2.py"
optim_wrapper = _base_.layer_wise
