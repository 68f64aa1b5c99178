// Stands for torch/csrc/autograd/variable.h, which torch/types.h includes for what it does not use
// itself: a candidate that names autograd is built the stock way.
#pragma once
