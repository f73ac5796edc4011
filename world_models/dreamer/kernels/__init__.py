"""Steps taken in another way than operator by operator: the scan as two Triton kernels, for GPUs, and the imagined
step as C++, for CPUs."""
