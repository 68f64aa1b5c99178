// PyTorch's build writes this file; a CPU build of it does not.
#pragma once

#define C10_CUDA_BUILD_SHARED_LIBS
