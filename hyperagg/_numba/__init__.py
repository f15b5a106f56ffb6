"""What compiled kernels share: the cache, threads, tasks, prefetching and SIMD operations."""
