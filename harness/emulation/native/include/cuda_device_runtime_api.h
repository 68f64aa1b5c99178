// Kernels that launch kernels are not emulated: nothing is declared here for them.
#pragma once

#include "cuda_runtime_api.h"
