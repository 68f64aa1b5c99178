// Counts every kernel that a process launches, by kernel and by the file that it came from.
//
// Loaded before everything else (LD_PRELOAD), it stands between all who launch kernels and the
// driver: PyTorch, vendor libraries with runtimes of their own, and a candidate's extension all ask
// for the driver's functions by name, through dlsym, cuGetProcAddress or the dynamic linker, and
// get the ones below, which note what is launched and pass it on. What is noted lies in a page that
// the oracle maps as well (kernel_harness_note_launches), so no Python of the process answers
// for it. Before that call, and in processes that never make it, everything is passed on.
//
// The oracle may ask (``Table::wish``) that launches be counted, that they be timed by events, and
// that those of the candidate's own kernels be left out, to see whether the result depends on them.
//
// Does not: decide what may be launched, or remember it (see notes.h).

#include <dlfcn.h>

#include <cstdint>
#include <string>

#include "driver.h"
#include "notes.h"

using namespace launches;

// What stands in for the driver's functions. Each looks its own up when it is first called: by then
// somebody has loaded the driver.
#define TRUE(name, ...) \
  static const auto real = of_driver_as<Result(__VA_ARGS__)>(#name)

extern "C" {

#define LAUNCH(name)                                                                           \
  Result name(Handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,       \
              unsigned bz, unsigned shared, Handle stream, void** arguments, void** extra) {   \
    TRUE(name, Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,   \
         Handle, void**, void**);                                                              \
    Noted noted(&f, 1, stream);                                                                \
    if (noted.left_out()) return kSuccess;                                                     \
    return noted.done(real(f, gx, gy, gz, bx, by, bz, shared, stream, arguments, extra));      \
  }
LAUNCH(cuLaunchKernel)
LAUNCH(cuLaunchKernel_ptsz)

#define LAUNCH_BY_CONFIG(name)                                                                 \
  Result name(const LaunchConfig* config, Handle f, void** arguments, void** extra) {          \
    TRUE(name, const LaunchConfig*, Handle, void**, void**);                                   \
    Noted noted(&f, 1, config->stream);                                                        \
    return noted.left_out() ? kSuccess : noted.done(real(config, f, arguments, extra));        \
  }
LAUNCH_BY_CONFIG(cuLaunchKernelEx)
LAUNCH_BY_CONFIG(cuLaunchKernelEx_ptsz)

#define LAUNCH_COOPERATIVE(name)                                                               \
  Result name(Handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,       \
              unsigned bz, unsigned shared, Handle stream, void** arguments) {                 \
    TRUE(name, Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,   \
         Handle, void**);                                                                      \
    Noted noted(&f, 1, stream);                                                                \
    if (noted.left_out()) return kSuccess;                                                     \
    return noted.done(real(f, gx, gy, gz, bx, by, bz, shared, stream, arguments));             \
  }
LAUNCH_COOPERATIVE(cuLaunchCooperativeKernel)
LAUNCH_COOPERATIVE(cuLaunchCooperativeKernel_ptsz)

#define REPLAY(name)                                                                           \
  Result name(Handle executable, Handle stream) {                                              \
    TRUE(name, Handle, Handle);                                                                \
    return replay(real, executable, stream);                                                   \
  }
REPLAY(cuGraphLaunch)
REPLAY(cuGraphLaunch_ptsz)

Result cuGraphInstantiateWithFlags(Handle* executable, Handle graph, unsigned long long flags) {
  TRUE(cuGraphInstantiateWithFlags, Handle*, Handle, unsigned long long);
  const Result result = real(executable, graph, flags);
  if (result == kSuccess) note_graph(*executable, graph);
  return result;
}

#define INSTANTIATE_WITH_PARAMS(name)                                                          \
  Result name(Handle* executable, Handle graph, void* parameters) {                            \
    TRUE(name, Handle*, Handle, void*);                                                        \
    const Result result = real(executable, graph, parameters);                                 \
    if (result == kSuccess) note_graph(*executable, graph);                                    \
    return result;                                                                             \
  }
INSTANTIATE_WITH_PARAMS(cuGraphInstantiateWithParams)
INSTANTIATE_WITH_PARAMS(cuGraphInstantiateWithParams_ptsz)

Result cuModuleLoad(Handle* module, const char* path) {
  TRUE(cuModuleLoad, Handle*, const char*);
  const Result result = real(module, path);
  if (result == kSuccess) note_image(*module, path);
  return result;
}

Result cuModuleLoadData(Handle* module, const void* image) {
  TRUE(cuModuleLoadData, Handle*, const void*);
  const Result result = real(module, image);
  if (result == kSuccess) note_image(*module, origin_of(image, __builtin_return_address(0)));
  return result;
}

Result cuModuleLoadDataEx(Handle* module, const void* image, unsigned count, int* options,
                          void** values) {
  TRUE(cuModuleLoadDataEx, Handle*, const void*, unsigned, int*, void**);
  const Result result = real(module, image, count, options, values);
  if (result == kSuccess) note_image(*module, origin_of(image, __builtin_return_address(0)));
  return result;
}

Result cuModuleLoadFatBinary(Handle* module, const void* image) {
  TRUE(cuModuleLoadFatBinary, Handle*, const void*);
  const Result result = real(module, image);
  if (result == kSuccess) note_image(*module, origin_of(image, __builtin_return_address(0)));
  return result;
}

Result cuLibraryLoadData(Handle* library, const void* code, int* options, void** values,
                         unsigned count, int* library_options, void** library_values,
                         unsigned library_count) {
  TRUE(cuLibraryLoadData, Handle*, const void*, int*, void**, unsigned, int*, void**, unsigned);
  const Result result = real(library, code, options, values, count, library_options,
                             library_values, library_count);
  if (result == kSuccess) note_image(*library, origin_of(code, __builtin_return_address(0)));
  return result;
}

Result cuLibraryLoadFromFile(Handle* library, const char* path, int* options, void** values,
                             unsigned count, int* library_options, void** library_values,
                             unsigned library_count) {
  TRUE(cuLibraryLoadFromFile, Handle*, const char*, int*, void**, unsigned, int*, void**, unsigned);
  const Result result = real(library, path, options, values, count, library_options,
                             library_values, library_count);
  if (result == kSuccess) note_image(*library, path);
  return result;
}

Result cuLibraryGetModule(Handle* module, Handle library) {
  TRUE(cuLibraryGetModule, Handle*, Handle);
  const Result result = real(module, library);
  if (result == kSuccess) note_same_image(*module, library);
  return result;
}

Result cuModuleGetFunction(Handle* function, Handle module, const char* name) {
  TRUE(cuModuleGetFunction, Handle*, Handle, const char*);
  const Result result = real(function, module, name);
  if (result == kSuccess) note_function(*function, module, name);
  return result;
}

Result cuLibraryGetKernel(Handle* kernel, Handle library, const char* name) {
  TRUE(cuLibraryGetKernel, Handle*, Handle, const char*);
  const Result result = real(kernel, library, name);
  if (result == kSuccess) note_function(*kernel, library, name);
  return result;
}

Result cuKernelGetFunction(Handle* function, Handle kernel) {
  TRUE(cuKernelGetFunction, Handle*, Handle);
  const Result result = real(function, kernel);
  if (result == kSuccess) note_same_function(*function, kernel);
  return result;
}

Result cuGetProcAddress(const char* name, void** function, int version, uint64_t flags);
Result cuGetProcAddress_v2(const char* name, void** function, int version, uint64_t flags,
                           int* status);
}

namespace {

struct Substitute {
  const char* name;
  void* ours;
};

#define OURS(name) \
  { #name, reinterpret_cast<void*>(&name) }
const Substitute kSubstitutes[] = {
    OURS(cuLaunchKernel),
    OURS(cuLaunchKernel_ptsz),
    OURS(cuLaunchKernelEx),
    OURS(cuLaunchKernelEx_ptsz),
    OURS(cuLaunchCooperativeKernel),
    OURS(cuLaunchCooperativeKernel_ptsz),
    OURS(cuGraphLaunch),
    OURS(cuGraphLaunch_ptsz),
    OURS(cuGraphInstantiateWithFlags),
    OURS(cuGraphInstantiateWithParams),
    OURS(cuGraphInstantiateWithParams_ptsz),
    OURS(cuModuleLoad),
    OURS(cuModuleLoadData),
    OURS(cuModuleLoadDataEx),
    OURS(cuModuleLoadFatBinary),
    OURS(cuLibraryLoadData),
    OURS(cuLibraryLoadFromFile),
    OURS(cuLibraryGetModule),
    OURS(cuModuleGetFunction),
    OURS(cuLibraryGetKernel),
    OURS(cuKernelGetFunction),
    OURS(cuGetProcAddress),
    OURS(cuGetProcAddress_v2),
};

void* substitute(const std::string& name, void* found) {
  for (const Substitute& one : kSubstitutes) {
    if (name == one.name) return one.ours;
  }
  return found;
}

// What cuGetProcAddress means by a name: newer interfaces and streams per thread have their own.
void* substitute(const char* asked, void* found, int version, uint64_t flags) {
  std::string name = asked;
  if (name == "cuGetProcAddress" && version >= 12000) name = "cuGetProcAddress_v2";
  if (name == "cuGraphInstantiate" && version >= 12000) name = "cuGraphInstantiateWithFlags";
  if (flags & kPerThreadStreams) {
    if (void* ours = substitute(name + "_ptsz", nullptr)) return ours;
  }
  return substitute(name, found);
}

[[gnu::noinline]] void* of_the_driver(void* handle, const char* name) noexcept {
  void* found = true_dlsym()(handle, name);
  return found == nullptr ? nullptr : substitute(std::string(name), found);
}

}  // namespace

extern "C" {

Result cuGetProcAddress(const char* name, void** function, int version, uint64_t flags) {
  TRUE(cuGetProcAddress, const char*, void**, int, uint64_t);
  const Result result = real(name, function, version, flags);
  if (result == kSuccess && *function) *function = substitute(name, *function, version, flags);
  return result;
}

Result cuGetProcAddress_v2(const char* name, void** function, int version, uint64_t flags,
                           int* status) {
  TRUE(cuGetProcAddress_v2, const char*, void**, int, uint64_t, int*);
  const Result result = real(name, function, version, flags, status);
  if (result == kSuccess && function && *function) {
    *function = substitute(name, *function, version, flags);
  }
  return result;
}

// In front of libc's own. What is not the driver's is passed on by a jump, not a call: RTLD_NEXT
// means "after the caller", whom libc knows by the return address.
void* dlsym(void* handle, const char* name) noexcept {
  const Dlsym passed_on = true_dlsym();
  if (handle != RTLD_NEXT && name[0] == 'c' && name[1] == 'u') return of_the_driver(handle, name);
  return passed_on(handle, name);
}

// Note launches from now on in the page behind ``memory``; 0, or -1 where it cannot be mapped.
int kernel_harness_note_launches(int memory) { return note_launches_in(memory) ? 0 : -1; }

// Wait for launches that were timed and note how long they took.
void kernel_harness_settle_launches() { settle(); }
}
