#include "reports.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <vector>

#include "block.h"
#include "emulated/core.h"

namespace emulated {
namespace {

constexpr size_t kMost = 256;  // a kernel that is wrong everywhere need not say so everywhere
std::mutex mutex;
std::vector<Report> reports;
thread_local int error = 0;  // as in CUDA, every host thread has a last error of its own
int sticky = 0;

template <size_t n>
void copy(char (&to)[n], const std::string& from) {
    std::snprintf(to, n, "%s", from.c_str());
}

bool same_place(const Report& a, const Report& b) {
    return !std::strcmp(a.kind, b.kind) && !std::strcmp(a.kernel, b.kernel) &&
           a.address == b.address && a.line == b.line && a.other_line == b.other_line &&
           !std::strcmp(a.file, b.file);
}

}  // namespace

void report(const char* kind, const std::string& text, const Where& where) {
    Report made{};
    copy(made.kind, kind);
    copy(made.text, text);
    copy(made.file, where.file ? where.file : "");
    made.line = where.line;
    made.column = where.column;
    made.address = reinterpret_cast<uint64_t>(where.address);
    made.other_line = where.other_line;
    made.times = 1;
    copy(made.kernel, running_kernel());
    made.in_kernel = in_kernel() && !where.afterwards;
    if (made.in_kernel) {
        const uint3 b = blockIdx, t = threadIdx;
        made.block[0] = b.x, made.block[1] = b.y, made.block[2] = b.z;
        made.thread[0] = t.x, made.thread[1] = t.y, made.thread[2] = t.z;
    }
    std::lock_guard lock(mutex);
    for (auto& known : reports) {
        if (same_place(known, made)) {
            known.times++;
            return;
        }
    }
    if (reports.size() < kMost) reports.push_back(made);
}

int take_reports(Report* out, int most) {
    std::lock_guard lock(mutex);
    const int n = std::min<int>(most, static_cast<int>(reports.size()));
    std::copy_n(reports.begin(), n, out);
    reports.clear();
    return n;
}

void set_sticky_error(int code) {
    if (!sticky) sticky = code;
}

bool is_broken() { return sticky != 0; }

int last_error(bool clear) {
    if (sticky) return sticky;
    const int found = error;
    if (clear) error = 0;
    return found;
}

void set_error(int code) { error = code; }

void unsupported(const char* what) {
    report("unsupported", what, {.address = __builtin_return_address(0)});
    set_sticky_error(kNotSupported);
    if (in_kernel()) end_kernel();
}

void trap(const char* kind, const char* text, const char* file, int line) {
    report(kind, text, {.address = __builtin_return_address(0), .file = file, .line = line});
    set_sticky_error(std::strcmp(kind, "assertion") ? kLaunchFailure : kAssert);
    end_kernel();
}

}  // namespace emulated
