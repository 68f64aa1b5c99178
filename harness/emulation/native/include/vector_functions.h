// make_float4 and the like, for every vector type.
#pragma once

#include "vector_types.h"

#define KH_MAKE_4(Type, Element)                                                \
    inline Type make_##Type(Element x, Element y, Element z, Element w) { return {x, y, z, w}; }
#define KH_MAKE(Name, Element)                                                  \
    inline Name##1 make_##Name##1(Element x) { return {x}; }                    \
    inline Name##2 make_##Name##2(Element x, Element y) { return {x, y}; }      \
    inline Name##3 make_##Name##3(Element x, Element y, Element z) { return {x, y, z}; } \
    KH_MAKE_4(Name##4, Element)
#define KH_MAKE_WIDE(Name, Element)                                             \
    KH_MAKE_4(Name##4_16a, Element)                                             \
    KH_MAKE_4(Name##4_32a, Element)

KH_MAKE(char, signed char)
KH_MAKE(uchar, unsigned char)
KH_MAKE(short, short)
KH_MAKE(ushort, unsigned short)
KH_MAKE(int, int)
KH_MAKE(uint, unsigned int)
KH_MAKE(long, long)
KH_MAKE(ulong, unsigned long)
KH_MAKE(longlong, long long)
KH_MAKE(ulonglong, unsigned long long)
KH_MAKE(float, float)
KH_MAKE(double, double)
KH_MAKE_WIDE(long, long)
KH_MAKE_WIDE(ulong, unsigned long)
KH_MAKE_WIDE(longlong, long long)
KH_MAKE_WIDE(ulonglong, unsigned long long)
KH_MAKE_WIDE(double, double)

#undef KH_MAKE
#undef KH_MAKE_WIDE
#undef KH_MAKE_4
