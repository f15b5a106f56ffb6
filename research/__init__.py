"""Studies, benchmarks and figures of this repository; not part of the wheel."""
