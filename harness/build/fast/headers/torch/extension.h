// Stands for torch/extension.h: of it, what torch/types.h gives. Whatever a candidate needs beyond that
// fails to compile here, and is built the stock way.
#pragma once

#include <kernel_harness/extension_standard.h>
#include <torch/types.h>
