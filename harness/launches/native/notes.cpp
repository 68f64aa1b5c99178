#include "notes.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace launches {
namespace {

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

std::string file_of(const void* address) {
  Dl_info found{};
  if (address != nullptr && dladdr(address, &found) && found.dli_fname) return found.dli_fname;
  return {};
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

}  // namespace

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

void note_same_image(Handle handle, Handle as) {
  const std::lock_guard lock(mutex_);
  const auto found = images().find(as);
  if (found == images().end()) return;
  const std::string same = found->second;  // an insertion may move what was found
  images()[handle] = same;
}

void note_same_function(Handle function, Handle as) {
  const std::lock_guard lock(mutex_);
  const auto found = functions().find(as);
  if (found == functions().end()) return;
  const Launched same = found->second;
  functions()[function] = same;
}

Noted::Noted(const Handle* kernels, size_t count, Handle stream) : stream_(stream) {
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

Result Noted::done(Result result) {
  if (begun_ == nullptr) return result;
  record(ended_);
  const std::lock_guard lock(mutex_);
  timed().push_back({row_, begun_, ended_});
  return result;
}

bool Noted::capturing() const {
  static const auto ask = of_driver_as<Result(Handle, int*)>("cuStreamIsCapturing");
  int state = 0;
  return ask == nullptr || ask(stream_, &state) != kSuccess || state != 0;
}

void Noted::begin() {
  static const auto create = of_driver_as<Result(Handle*, unsigned)>("cuEventCreate");
  if (create == nullptr || create(&begun_, 0) != kSuccess || create(&ended_, 0) != kSuccess) {
    begun_ = nullptr;
    return;
  }
  record(begun_);
}

void Noted::record(Handle event) const {
  static const auto call = of_driver_as<Result(Handle, Handle)>("cuEventRecord");
  if (call != nullptr) call(event, stream_);
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

bool note_launches_in(int memory) {
  void* page = mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (page == MAP_FAILED) return false;
  table_ = static_cast<Table*>(page);
  return true;
}

void settle() {
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

}  // namespace launches
