// The runtime API of CUDA, as far as it is emulated; each part says what it leaves out.
#pragma once

#include "driver_types.h"
#include "emulated/occupancy.h"
#include "emulated/runtime_device.h"
#include "emulated/runtime_errors.h"
#include "emulated/runtime_launch.h"
#include "emulated/runtime_memory.h"
#include "emulated/runtime_streams.h"

#define CUDART_VERSION 13000
