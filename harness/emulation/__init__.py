"""A CUDA device emulated on the CPU: see docs/emulated_device.md."""
