// Stands for torch/all.h: of it, what torch/types.h gives. Whatever a candidate needs beyond that
// fails to compile here, and is built the stock way.
#pragma once

#include <torch/types.h>
