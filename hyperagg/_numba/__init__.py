"""What compiled kernels share: threads, prefetching and SIMD rows."""
