// What nvcc includes before every source: the language of kernels, and the runtime API.
#pragma once

#include "cuda_runtime_api.h"
#include "emulated/device.h"
