"""The scan as two Triton kernels, one forward and one backward, for GPUs."""
