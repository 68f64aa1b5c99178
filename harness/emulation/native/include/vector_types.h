// CUDA's vector types and dim3: layout and alignment as on the device. CUDA has no operators for
// them.
//
// As in CUDA 13 the four-element types of 8-byte elements exist three times: long4 is aligned to 16
// bytes, long4_16a too, and long4_32a to 32.
#pragma once

// Types of three elements are aligned as one element is.
#define KH_VECTOR_TYPES(Name, Element, align_of_2, align_of_4)                  \
    struct Name##1 { Element x; };                                              \
    struct alignas(align_of_2) Name##2 { Element x, y; };                       \
    struct Name##3 { Element x, y, z; };                                        \
    struct alignas(align_of_4) Name##4 { Element x, y, z, w; };
#define KH_WIDE_VECTOR_TYPES(Name, Element)                                     \
    struct alignas(16) Name##4_16a { Element x, y, z, w; };                     \
    struct alignas(32) Name##4_32a { Element x, y, z, w; };

KH_VECTOR_TYPES(char, signed char, 2, 4)
KH_VECTOR_TYPES(uchar, unsigned char, 2, 4)
KH_VECTOR_TYPES(short, short, 4, 8)
KH_VECTOR_TYPES(ushort, unsigned short, 4, 8)
KH_VECTOR_TYPES(int, int, 8, 16)
KH_VECTOR_TYPES(uint, unsigned int, 8, 16)
KH_VECTOR_TYPES(long, long, 16, 16)
KH_VECTOR_TYPES(ulong, unsigned long, 16, 16)
KH_VECTOR_TYPES(longlong, long long, 16, 16)
KH_VECTOR_TYPES(ulonglong, unsigned long long, 16, 16)
KH_VECTOR_TYPES(float, float, 8, 16)
KH_VECTOR_TYPES(double, double, 16, 16)
KH_WIDE_VECTOR_TYPES(long, long)
KH_WIDE_VECTOR_TYPES(ulong, unsigned long)
KH_WIDE_VECTOR_TYPES(longlong, long long)
KH_WIDE_VECTOR_TYPES(ulonglong, unsigned long long)
KH_WIDE_VECTOR_TYPES(double, double)

#undef KH_VECTOR_TYPES
#undef KH_WIDE_VECTOR_TYPES

struct dim3 {
    unsigned int x, y, z;
    constexpr dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return {x, y, z}; }
};
