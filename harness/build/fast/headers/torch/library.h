// Stands for torch/library.h, which torch/types.h includes: a candidate that registers operators is
// built the stock way.
#pragma once
