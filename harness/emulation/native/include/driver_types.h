// The name under which CUDA keeps the types of its runtime API.
#pragma once

#include "emulated/runtime_types.h"
