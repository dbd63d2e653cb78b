"""The network on CUDA: the same page, `engine.gpt`, on kernels that take products over nonzeros.

The page stays as it is, because each of its three costly steps has a kernel of the same meaning:
AbsTopK (`select`), a block's products (`product`), attention (`attention`). So every site, every
intervention, cut and gradient works on them as on dense matrices. Which matrices are multiplied by
their nonzeros is measured when a model is loaded (`choice`).

The kernels are written in Triton, which comes with CUDA builds of torch and is required nowhere:
without it everything runs on torch's own, densely.
"""
