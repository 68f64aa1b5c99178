// What -fsanitize=bounds,alignment calls when a check fails: this replaces libubsan, so that a
// failure becomes a report with the CUDA thread and the source line. Layouts as GCC and Clang emit.
#include <cstdint>
#include <cstdio>
#include <string>

#include "block.h"
#include "emulated/core.h"
#include "reports.h"

namespace {

struct SourceLocation {
    const char* file;
    uint32_t line;
    uint32_t column;
};
struct TypeDescriptor {
    uint16_t kind;
    uint16_t info;
    char name[1];
};
struct OutOfBounds {
    SourceLocation where;
    const TypeDescriptor* array;
    const TypeDescriptor* index;
};
struct TypeMismatch {
    SourceLocation where;
    const TypeDescriptor* type;
    unsigned char log_alignment;
    unsigned char check;
};

emulated::Where place(const SourceLocation& where, const void* caller) {
    return {.address = caller,
            .file = where.file,
            .line = static_cast<int>(where.line),
            .column = static_cast<int>(where.column)};
}

}  // namespace

extern "C" {

// Goes on: `tile[0][i]` may rightly walk through the rows of a two-dimensional array, and only the
// source can tell. A shared array's true end is guarded anyway.
KH_API void __ubsan_handle_out_of_bounds(OutOfBounds* data, void* index) {
    if (!emulated::in_kernel()) return;
    emulated::report("array_bounds",
                     "index " + std::to_string(reinterpret_cast<intptr_t>(index)) +
                         " of an array of type " + data->array->name,
                     place(data->where, __builtin_return_address(0)));
}

KH_API void __ubsan_handle_type_mismatch_v1(TypeMismatch* data, void* pointer) {
    if (!emulated::in_kernel() || !pointer) return;
    char text[256];
    std::snprintf(text, sizeof text, "%s at %p, which is not a multiple of %d", data->type->name,
                  pointer, 1 << data->log_alignment);
    emulated::report("misaligned", text, place(data->where, __builtin_return_address(0)));
    emulated::set_sticky_error(emulated::kMisaligned);
    emulated::end_kernel();
}

}  // extern "C"
