// Counts every kernel that a process launches, by kernel and by the file that it came from.
//
// Loaded before everything else (LD_PRELOAD), it stands between all who launch kernels and the
// driver: PyTorch, vendor libraries with runtimes of their own, and a candidate's extension all ask
// for the driver's functions by name, through dlsym, cuGetProcAddress or the dynamic linker, and
// get the ones below, which note what is launched and pass it on. What is noted lies in a page that
// the oracle maps as well (kernel_harness_note_launches), so no Python of the process answers
// for it. Before that call, and in processes that never make it, everything is passed on.
//
//   image of code ──> module or library ──> function or kernel ──> launch
//   (whose file is    (cuModuleLoad*,       (cuModuleGetFunction,   (cuLaunch*, and for
//    known: origin)    cuLibraryLoad*)       cuLibraryGetKernel)     graphs cuGraphLaunch)
//
// The oracle may ask (``Table::wish``) that launches be counted, that they be timed by events, and
// that those of the candidate's own kernels be left out, to see whether the result depends on them.
//
// Does not: decide what may be launched. CUDA's few types are declared here, so that building this
// takes nothing but a C++ compiler.

#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

// What of the driver's interface is needed; layouts are those of cuda.h, which never change.
using Result = int;
using Handle = void*;
constexpr Result kSuccess = 0;

struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  Handle stream;
  void* attributes;
  unsigned attribute_count;
};

struct KernelNode {  // CUDA_KERNEL_NODE_PARAMS_v2
  Handle function;
  unsigned grid[3], block[3], shared_bytes;
  void **arguments, **extra;
  Handle kernel, context;
};

constexpr unsigned kPerThreadStreams = 2;  // a flag of cuGetProcAddress
constexpr int kKernelNode = 0, kChildGraphNode = 4;

// The page that the oracle reads; harness/launches/table.py has the same layout.

constexpr int kRows = 1000;
constexpr uint32_t kCounted = 1, kTimed = 2, kWithoutOwn = 4;

constexpr char kMadeAtRunTime[] = "loaded by ";  // comes before the loader's file in ``origin``

struct Row {
  char origin[176];
  char kernel[304];
  std::atomic<uint64_t> count;
  std::atomic<uint64_t> left_out;
  std::atomic<uint64_t> nanoseconds;
  uint64_t reserved;
};
static_assert(sizeof(Row) == 512);

struct Table {
  std::atomic<uint32_t> wish;      // what the oracle asks for
  std::atomic<uint32_t> rows;      // how many are in use
  std::atomic<uint64_t> overflow;  // launches for which there was no row
  char own[496];                   // how the path begins of files that count as the candidate's own
  Row row[kRows];
};

struct Launched {
  std::string kernel, origin;
};

struct Timed {
  int row;
  Handle begun, ended;
};

std::mutex mutex_;  // guards all of the following
Table* table_ = nullptr;
std::unordered_map<Handle, std::string>& images() {  // modules and libraries
  static auto& made = *new std::unordered_map<Handle, std::string>;
  return made;
}
std::unordered_map<Handle, Launched>& functions() {  // functions and kernels
  static auto& made = *new std::unordered_map<Handle, Launched>;
  return made;
}
std::unordered_map<Handle, int>& rows() {  // by function or kernel
  static auto& made = *new std::unordered_map<Handle, int>;
  return made;
}
std::unordered_map<Handle, std::vector<Handle>>& graphs() {  // kernels of executable graphs
  static auto& made = *new std::unordered_map<Handle, std::vector<Handle>>;
  return made;
}
std::vector<Timed>& timed() {
  static auto& made = *new std::vector<Timed>;
  return made;
}

// The true functions.

using Dlsym = void* (*)(void*, const char*) noexcept;
Dlsym libc_dlsym = nullptr;

[[gnu::noinline]] Dlsym true_dlsym() noexcept {
  for (const char* version : {"GLIBC_2.2.5", "GLIBC_2.17", "GLIBC_2.34"}) {
    if (libc_dlsym == nullptr) {
      libc_dlsym = reinterpret_cast<Dlsym>(dlvsym(RTLD_NEXT, "dlsym", version));
    }
  }
  return libc_dlsym;
}

// A function of the driver that this process has loaded, or nothing.
void* of_driver(const char* name) {
  static void* driver = nullptr;
  if (driver == nullptr) driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  return driver == nullptr ? nullptr : true_dlsym()(driver, name);
}

template <typename Function>
Function* of_driver_as(const char* name) {
  return reinterpret_cast<Function*>(of_driver(name));
}

// Who loaded what, and what it is called.

std::string file_of(const void* address) {
  Dl_info found{};
  if (address != nullptr && dladdr(address, &found) && found.dli_fname) return found.dli_fname;
  return {};
}

// The file that an image lies in; of one that was made at run time the file of its loader.
std::string origin_of(const void* image, const void* loader) {
  std::string file = file_of(image);
  return file.empty() ? kMadeAtRunTime + file_of(loader) : file;
}

void note_image(Handle handle, const std::string& origin) {
  const std::lock_guard lock(mutex_);
  images()[handle] = origin;
}

void note_function(Handle function, Handle image, const char* name) {
  const std::lock_guard lock(mutex_);
  const auto found = images().find(image);
  functions()[function] = {name, found == images().end() ? "" : found->second};
  rows().erase(function);  // a handle may stand for something new
}

// What became of a kernel that was found by no name (one a runtime looked up by other means).
Launched asked(Handle function) {
  Launched made{"?", "?"};
  const char* name = nullptr;
  const auto name_of = of_driver_as<Result(const char**, Handle)>("cuFuncGetName");
  if (name_of != nullptr && name_of(&name, function) == kSuccess && name) made.kernel = name;
  Handle module = nullptr;
  const auto module_of = of_driver_as<Result(Handle*, Handle)>("cuFuncGetModule");
  if (module_of != nullptr && module_of(&module, function) == kSuccess) {
    const auto found = images().find(module);
    if (found != images().end()) made.origin = found->second;
  }
  return made;
}

void copy(char* to, size_t size, const std::string& text) {
  std::memset(to, 0, size);
  std::memcpy(to, text.data(), std::min(size - 1, text.size()));
}

// The row of a function, with the lock held; -1 where there is none left.
int row_of(Handle function) {
  const auto known = rows().find(function);
  if (known != rows().end()) return known->second;
  const auto named = functions().find(function);
  const Launched launched = named == functions().end() ? asked(function) : named->second;
  char origin[sizeof(Row::origin)], kernel[sizeof(Row::kernel)];
  copy(origin, sizeof(origin), launched.origin);
  copy(kernel, sizeof(kernel), launched.kernel);
  const int used = static_cast<int>(table_->rows.load());
  int row = 0;
  while (row < used && (std::strcmp(table_->row[row].origin, origin) != 0 ||
                        std::strcmp(table_->row[row].kernel, kernel) != 0)) {
    ++row;
  }
  if (row == kRows) return rows()[function] = -1;
  if (row == used) {
    std::memcpy(table_->row[row].origin, origin, sizeof(origin));
    std::memcpy(table_->row[row].kernel, kernel, sizeof(kernel));
    table_->rows.store(used + 1);
  }
  return rows()[function] = row;
}

bool is_own(int row) {
  if (row < 0 || table_->own[0] == 0) return false;
  const char* origin = table_->row[row].origin;
  const size_t made = std::strlen(kMadeAtRunTime);
  if (std::strncmp(origin, kMadeAtRunTime, made) == 0) origin += made;
  return std::strncmp(origin, table_->own, std::strlen(table_->own)) == 0;
}

// One launch of some kernels: noted, and on request timed or left out.
class Noted {
 public:
  Noted(const Handle* kernels, size_t count, Handle stream) : stream_(stream) {
    if (table_ == nullptr) return;
    const uint32_t wish = table_->wish.load(std::memory_order_relaxed);
    if (!(wish & kCounted)) return;
    const std::lock_guard lock(mutex_);
    bool own = count > 0;
    for (size_t i = 0; i < count; ++i) own = own && is_own(row_of(kernels[i]));
    left_out_ = own && (wish & kWithoutOwn) != 0;
    for (size_t i = 0; i < count; ++i) {
      const int row = row_of(kernels[i]);
      if (row < 0) {
        ++table_->overflow;
      } else {
        ++(left_out_ ? table_->row[row].left_out : table_->row[row].count);
        row_ = row;  // a graph's time is its last kernel's
      }
    }
    if ((wish & kTimed) && !left_out_ && row_ >= 0 && !capturing()) begin();
  }

  bool left_out() const { return left_out_; }

  Result done(Result result) {
    if (begun_ == nullptr) return result;
    record(ended_);
    const std::lock_guard lock(mutex_);
    timed().push_back({row_, begun_, ended_});
    return result;
  }

 private:
  bool capturing() const {
    static const auto ask = of_driver_as<Result(Handle, int*)>("cuStreamIsCapturing");
    int state = 0;
    return ask == nullptr || ask(stream_, &state) != kSuccess || state != 0;
  }

  void begin() {
    static const auto create = of_driver_as<Result(Handle*, unsigned)>("cuEventCreate");
    if (create == nullptr || create(&begun_, 0) != kSuccess || create(&ended_, 0) != kSuccess) {
      begun_ = nullptr;
      return;
    }
    record(begun_);
  }

  void record(Handle event) const {
    static const auto call = of_driver_as<Result(Handle, Handle)>("cuEventRecord");
    if (call != nullptr) call(event, stream_);
  }

  Handle stream_, begun_ = nullptr, ended_ = nullptr;
  int row_ = -1;
  bool left_out_ = false;
};

// The kernels of a graph, those of its children included.
void kernels_of(Handle graph, std::vector<Handle>& found) {
  const auto list = of_driver_as<Result(Handle, Handle*, size_t*)>("cuGraphGetNodes");
  const auto type_of = of_driver_as<Result(Handle, int*)>("cuGraphNodeGetType");
  const auto parameters =
      of_driver_as<Result(Handle, KernelNode*)>("cuGraphKernelNodeGetParams_v2");
  const auto child = of_driver_as<Result(Handle, Handle*)>("cuGraphChildGraphNodeGetGraph");
  size_t count = 0;
  if (!list || !type_of || !parameters || list(graph, nullptr, &count) != kSuccess) return;
  std::vector<Handle> nodes(count);
  if (list(graph, nodes.data(), &count) != kSuccess) return;
  for (Handle node : nodes) {
    int type = -1;
    if (type_of(node, &type) != kSuccess) continue;
    KernelNode kernel{};
    Handle inner = nullptr;
    if (type == kKernelNode && parameters(node, &kernel) == kSuccess) {
      found.push_back(kernel.kernel != nullptr ? kernel.kernel : kernel.function);
    } else if (type == kChildGraphNode && child && child(node, &inner) == kSuccess) {
      kernels_of(inner, found);
    }
  }
}

void note_graph(Handle executable, Handle graph) {
  if (table_ == nullptr) return;
  std::vector<Handle> found;
  kernels_of(graph, found);
  const std::lock_guard lock(mutex_);
  graphs()[executable] = std::move(found);
}

Result replay(Result (*launch)(Handle, Handle), Handle executable, Handle stream) {
  std::vector<Handle> kernels;
  {
    const std::lock_guard lock(mutex_);
    const auto found = graphs().find(executable);
    if (found != graphs().end()) kernels = found->second;
  }
  Noted noted(kernels.data(), kernels.size(), stream);
  return noted.left_out() ? kSuccess : noted.done(launch(executable, stream));
}

}  // namespace

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
    return table_ == nullptr ? real(executable, stream) : replay(real, executable, stream);    \
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
  if (result == kSuccess) {
    const std::lock_guard lock(mutex_);
    const auto found = images().find(library);
    if (found != images().end()) images()[*module] = found->second;
  }
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
  if (result == kSuccess) {
    const std::lock_guard lock(mutex_);
    const auto found = functions().find(kernel);
    if (found != functions().end()) {
      const Launched same = found->second;
      functions()[*function] = same;
    }
  }
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
  const Dlsym passed_on = libc_dlsym != nullptr ? libc_dlsym : true_dlsym();
  if (handle != RTLD_NEXT && name[0] == 'c' && name[1] == 'u') return of_the_driver(handle, name);
  return passed_on(handle, name);
}

// Note launches from now on in the page behind ``memory``; 0, or -1 where it cannot be mapped.
int kernel_harness_note_launches(int memory) {
  void* page = mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (page == MAP_FAILED) return -1;
  table_ = static_cast<Table*>(page);
  return 0;
}

// Wait for the device and add up what was timed. The driver has a context by then.
void kernel_harness_settle_launches() {
  static const auto elapsed = of_driver_as<Result(float*, Handle, Handle)>("cuEventElapsedTime");
  static const auto wait = of_driver_as<Result(Handle)>("cuEventSynchronize");
  static const auto destroy = of_driver_as<Result(Handle)>("cuEventDestroy_v2");
  const std::lock_guard lock(mutex_);
  for (const Timed& one : timed()) {
    float milliseconds = 0;
    if (wait(one.ended) == kSuccess && elapsed(&milliseconds, one.begun, one.ended) == kSuccess) {
      table_->row[one.row].nanoseconds += static_cast<uint64_t>(milliseconds * 1e6);
    }
    destroy(one.begun);
    destroy(one.ended);
  }
  timed().clear();
}
}
