// The torch:: names for what is declared in at:: and c10::, as torch/types.h has them.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

namespace torch {

using namespace at;  // NOLINT

using std::nullopt;   // NOLINT
using std::optional;  // NOLINT

using Dtype = at::ScalarType;

constexpr auto kUInt8 = at::kByte, kU8 = at::kByte;
constexpr auto kInt8 = at::kChar, kI8 = at::kChar;
constexpr auto kInt16 = at::kShort, kI16 = at::kShort;
constexpr auto kInt32 = at::kInt, kI32 = at::kInt;
constexpr auto kInt64 = at::kLong, kI64 = at::kLong;
constexpr auto kUInt16 = at::ScalarType::UInt16, kU16 = kUInt16;
constexpr auto kUInt32 = at::ScalarType::UInt32, kU32 = kUInt32;
constexpr auto kUInt64 = at::ScalarType::UInt64, kU64 = kUInt64;
constexpr auto kFloat16 = at::kHalf, kF16 = at::kHalf;
constexpr auto kFloat32 = at::kFloat, kF32 = at::kFloat;
constexpr auto kFloat64 = at::kDouble, kF64 = at::kDouble;

}  // namespace torch
