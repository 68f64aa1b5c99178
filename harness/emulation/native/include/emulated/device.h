// Everything that CUDA C++ has without a further #include: qualifiers, built-in variables and
// types, and the device functions. Sixteen-bit floats, cooperative groups and wmma have headers of
// their own, as in CUDA.
#pragma once

#include "emulated/qualifiers.h"

#include "vector_types.h"
#include "vector_functions.h"

#include "emulated/core.h"

#include "emulated/assert.h"
#include "emulated/atomics.h"
#include "emulated/conversions.h"
#include "emulated/integers.h"
#include "emulated/launch.h"
#include "emulated/math.h"
#include "emulated/memory.h"
#include "emulated/simd.h"
#include "emulated/warp.h"
