// What a unit needs after code.h or bindings.h if it names torch::autograd: functions with a backward
// of their own. It is not in the prefixes because every unit would pay for it, by a third.
#pragma once

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/grad_mode.h>
