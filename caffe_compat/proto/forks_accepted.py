"""Fields of forks that are taken notice of once, in the log, and dropped."""

__all__ = ["ACCEPTED"]

# What names another kernel, precision or memory, or who computes: it changes no number that a float32 net without it
# would not give.  The types are in schema_forks.py.  force_mult is a
# factor of the solver's force_decay, which is 0 unless a solver says it (and such solvers are refused).
ACCEPTED = """
wenwei202/caffe
  ParamSpec force_mult
TheLegendAli/CCVL
  V1LayerParameter strict_dim
NVIDIA/caffe
  NetParameter default_forward_type default_backward_type default_forward_math default_backward_math global_grad_scale
    global_grad_scale_adaptive default_conv_algos_override reduce_buckets default_cudnn_math_override
    eltwise_mem_sharing
  SolverParameter solver_data_type store_blobs_in_old_format
  LayerParameter forward_type backward_type forward_math backward_math debug cudnn_math_override
  TransformationParameter use_gpu_transform forward_packing display
  BatchNormParameter engine
  ConvolutionParameter cudnn_convolution_algo_seeker conv_algos_override
  DataParameter threads parser_threads cache precache
  DropoutParameter engine
  ImageDataParameter threads cache precache
yjxiong/caffe
  DataParameter mpi_skip_step
  NetParameter richness mem_param
  SolverParameter richness group_id
lmb-freiburg/flownet2
  LayerParameter reshape_every_iter
intel/caffe
  NetParameter engine multinode
  SolverParameter engine
  LayerParameter engine multinode split_param mn_grad_compress_param quantization_param
  ConcatParameter engine
  BatchNormParameter engine
  ConvolutionParameter conv_algorithm
  EltwiseParameter engine
  InnerProductParameter engine
"""
