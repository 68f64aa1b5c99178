// Stands for cublas_v2.h. The interface of CUDA 3, without handles, is not emulated.
#pragma once

#include "cublas_v2.h"
