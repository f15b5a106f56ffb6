"""What compiled kernels share: the cache, threads, barriers, prefetching and SIMD operations."""
